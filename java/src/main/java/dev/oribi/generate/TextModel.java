package dev.oribi.generate;

import dev.oribi.OribiException;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.StreamDecoder;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;

/**
 * A model folder, with or without an adapter, that continues texts and answers chats. Closing it frees the memory. One
 * thread at a time.
 *
 * <pre>{@code
 * try (TextModel model = TextModel.open(Path.of("models/llama"), Path.of("oribi-output"), 0, 512)) {
 *   String answer = model.chat(List.of(Map.of("role", "user", "content", "Who are you?")),
 *       model.greedy(64), piece -> System.out.print(piece));
 * }
 * }</pre>
 */
public final class TextModel implements AutoCloseable {
  private final Tokenizer tokenizer;
  private final ChatTemplate template;
  private final GenerationConfig defaults;
  private final Machine machine;
  private final Generator generator;
  private final Optional<String> headReport;

  private TextModel(
      Tokenizer tokenizer, ChatTemplate template, GenerationConfig defaults, Machine machine, Generator generator,
      Optional<String> headReport) {
    this.headReport = headReport;
    this.tokenizer = tokenizer;
    this.template = template;
    this.defaults = defaults;
    this.machine = machine;
    this.generator = generator;
  }

  /**
   * Opens a folder on a GPU if there is one, else on the CPU.
   *
   * @param adapter folder of a PEFT adapter, or null
   * @param threads of the CPU; 0 for all the cores there are
   * @param context most tokens of prompt and answer; cut to what the model was made for
   */
  public static TextModel open(Path folder, Path adapter, int threads, int context) {
    return open(folder, adapter, Storage.PLAIN, Machine.open("auto", threads), context);
  }

  /**
   * How the base is held, as an adapter was trained on top of it.
   *
   * @param layersIn4bit the linear layers are in 4 bits
   * @param headIn8bit the output head is in 8 bits
   */
  public record Storage(boolean layersIn4bit, boolean headIn8bit) {
    /** As the folder holds it. */
    public static final Storage PLAIN = new Storage(false, false);
  }

  /** Opens a folder and takes its memory on {@code machine}, which is closed with it, or at once if this fails. */
  public static TextModel open(Path folder, Path adapter, Storage storage, Machine machine, int context) {
    try {
      return load(folder, adapter, storage, machine, context);
    } catch (RuntimeException e) {
      machine.close();
      throw e;
    }
  }

  private static TextModel load(Path folder, Path adapter, Storage storage, Machine machine, int context) {
    ModelConfig config = ModelConfig.read(folder);
    Tokenizer tokenizer = Tokenizer.load(folder);
    int positions = Math.min(context, config.contextLength());
    Decoder model =
        new Decoder(
            config, machine.defaultType(config), training(adapter),
            FrozenStorage.of(config, storage.layersIn4bit, storage.headIn8bit), positions);
    Generator generator = new Generator(model, machine, positions);
    Weights weights;
    try {
      weights = generator.take();
      weights.load(folder, adapter);
    } catch (RuntimeException e) {
      generator.close();
      tokenizer.close();
      throw e;
    }
    ChatTemplate template = ChatTemplate.load(folder).orElse(null);
    return new TextModel(tokenizer, template, GenerationConfig.read(folder, config), machine, generator, weights.headReport());
  }

  /** The adapter of a folder as it is run: what it holds, and no dropout. */
  public static Training training(Path adapter) {
    return adapter == null ? Training.NONE : Training.adapter(LoraConfig.read(adapter));
  }

  /** What a head in 8 bits lost when it was loaded; see {@link Weights#headReport}. */
  public Optional<String> headReport() {
    return headReport;
  }

  public Tokenizer tokenizer() {
    return tokenizer;
  }

  public Optional<ChatTemplate> template() {
    return Optional.ofNullable(template);
  }

  /** What the folder's generation_config.json says. */
  public GenerationConfig defaults() {
    return defaults;
  }

  /** Always the most likely token. */
  public Generator.Options greedy(int maxNewTokens) {
    return Generator.Options.greedy(maxNewTokens, stopIds());
  }

  /** Tokens that end a text: those of the configuration and the tokenizer's own. */
  public Set<Integer> stopIds() {
    Set<Integer> ids = new HashSet<>(defaults.eosTokenIds());
    tokenizer.eosTokenId().ifPresent(ids::add);
    return ids;
  }

  /**
   * Goes on from a text.
   *
   * @param onText sees each piece of the answer as soon as its characters are whole
   */
  public String complete(String prompt, Generator.Options options, Consumer<String> onText) {
    return generate(tokenizer.encode(prompt, true), options, onText);
  }

  /** Answers a conversation, by the model's chat template. {@code messages}: maps with role and content. */
  public String chat(List<Map<String, Object>> messages, Generator.Options options, Consumer<String> onText) {
    if (template == null) {
      throw new OribiException(
          "this model has no chat template: put a chat_template.jinja into its folder, or use `oribi generate` with plain text");
    }
    String text = template.render(messages, true, templateVariables()).text();
    return generate(tokenizer.encode(text, false), options, onText);
  }

  private Map<String, Object> templateVariables() {
    Map<String, Object> variables = new HashMap<>();
    tokenizer.bosToken().ifPresent(t -> variables.put("bos_token", t));
    tokenizer.eosToken().ifPresent(t -> variables.put("eos_token", t));
    return variables;
  }

  private String generate(int[] prompt, Generator.Options options, Consumer<String> onText) {
    StreamDecoder decoder = tokenizer.streamDecoder();
    StringBuilder all = new StringBuilder();
    generator.generate(
        prompt,
        options,
        id -> {
          String piece = decoder.push(id);
          all.append(piece);
          onText.accept(piece);
          return true;
        });
    String rest = decoder.flush();
    all.append(rest);
    onText.accept(rest);
    return all.toString();
  }

  @Override
  public void close() {
    generator.close();
    machine.close();
    tokenizer.close();
  }
}
