package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.data.DataOptions;
import dev.oribi.data.MaskBy;
import dev.oribi.data.TrainOn;
import dev.oribi.text.ChatTemplate;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import picocli.CommandLine.Help.Visibility;
import picocli.CommandLine.Option;

/** Options that say how rows of data are read; the same for every command that reads some. */
public final class RowSettings {
  private static final Set<String> KEYS = Set.of("input_ids", "labels", "messages", "conversations", "prompt", "completion", "chosen",
      "rejected", "instruction", "input", "output", "history", "system", "tools", "text");

  @Option(names = "--columns", paramLabel = "NAMES", split = ",", showDefaultValue = Visibility.NEVER,
      description = "What the keys or columns of the data are, as prompt=question,completion=answer; in a CSV without a heading"
          + " by their numbers. Others are not read then.")
  public List<String> columns = new ArrayList<>();

  @Option(names = "--chat-template", paramLabel = "NAME",
      description = "Write conversations by this template in place of the model's own: a file of Jinja, or alpaca, chatml, gemma,"
          + " llama2, llama3, mistral-v1, mistral-v2, mistral-v3, phi3, vicuna, zephyr.")
  public String chatTemplate;

  @Option(names = "--train-on", paramLabel = "TURNS",
      description = "Which answers of a conversation are learned: ${COMPLETION-CANDIDATES}.")
  public TrainOn trainOn = TrainOn.ALL;

  @Option(names = "--mask-by", paramLabel = "WAY",
      description = "How answers are found: ${COMPLETION-CANDIDATES}. generation: the template's marks; turns: what a turn adds to the"
          + " conversation; roles: from the head of an answer to its end; auto: the first of these that works.")
  public MaskBy maskBy = MaskBy.AUTO;

  @Option(names = "--skip-bad-rows", arity = "0..1", fallbackValue = "true",
      showDefaultValue = Visibility.ALWAYS, paramLabel = "true|false",
      description = "Leave out rows that cannot be read, and count them, in place of ending the run.")
  public boolean skipBadRows = false;

  private Path adapter;

  /** Adds what these options say to others. */
  public DataOptions apply(DataOptions options) {
    return options.withColumns(columnMap()).withMask(trainOn, maskBy).skippingBadRows(skipBadRows);
  }

  private Map<String, String> columnMap() {
    Map<String, String> map = new LinkedHashMap<>();
    for (String column : columns) {
      int at = column.indexOf('=');
      if (at < 1 || at == column.length() - 1) {
        throw new OribiException("--columns has '" + column + "': it must be a key of Oribi's, =, and its name in the data.");
      }
      String key = column.substring(0, at).strip();
      if (!KEYS.contains(key)) {
        throw new OribiException("--columns names '" + key + "', which is no key: the keys are "
            + String.join(", ", KEYS.stream().sorted().toList()) + ".");
      }
      map.put(key, column.substring(at + 1).strip());
    }
    return map;
  }

  /**
   * Takes the template that an adapter brings, with which its answers were learned, for the model's own.
   *
   * @param folder of the adapter; may be null
   */
  public void adapter(Path folder) {
    adapter = folder;
  }

  /** The template to write conversations by: the one that was asked for, else the adapter's or the model's own. */
  public Optional<ChatTemplate> template(Path modelFolder) {
    return chosenTemplate().or(() -> ChatTemplate.load(modelFolder));
  }

  /** The template that takes the place of the model's own, if any. */
  Optional<ChatTemplate> chosenTemplate() {
    if (chatTemplate != null) {
      return Optional.of(ChatTemplate.of(chatTemplate));
    }
    return adapter == null ? Optional.empty() : ChatTemplate.load(adapter);
  }
}
