package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import net.jqwik.api.lifecycle.AfterContainer;
import net.jqwik.api.lifecycle.BeforeContainer;

/** Whatever the texts are, what is learned is the answers with their ends, and nothing else. */
class RowPropertyTest {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static Path folder;
  private static Tokenizer tokenizer;

  @BeforeContainer
  static void open() throws IOException {
    folder = Files.createTempDirectory("rows");
    tokenizer = Tokenizer.load(ByteTokenizer.write(folder.resolve("model")));
  }

  @AfterContainer
  static void close() {
    tokenizer.close();
    dev.oribi.io.AtomicFiles.deleteTree(folder);
  }

  /** Without half characters, which a file of UTF-8 cannot hold, and without special tokens, which would be read as such. */
  private static String clean(String text) {
    return new String(text.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8).replace("<", "").replace("|", "");
  }

  private static Made made(ObjectNode json, MaskBy by, TrainOn trainOn) {
    DataOptions options = DataOptions.of(1_000_000).withMask(trainOn, by);
    ChatTemplate template = by == MaskBy.GENERATION ? ChatTemplate.named("chatml") : ChatTemplate.parse(ByteTokenizer.CHATML);
    return new RowMaker(options, tokenizer, template).rows(new RecordReader.Record("here:1", json, null, null)).get(0);
  }

  private static String learned(Row row) {
    return tokenizer.decode(Arrays.stream(row.labels()).filter(l -> l != MicroBatch.IGNORE).toArray(), false);
  }

  @Property(tries = 200)
  void theCompletionIsLearned(@ForAll String prompt, @ForAll String completion) {
    ObjectNode json = MAPPER.createObjectNode().put("prompt", clean(prompt)).put("completion", clean(completion));
    Row row = made(json, MaskBy.AUTO, TrainOn.ALL).whole();
    assertThat(learned(row)).isEqualTo(clean(completion) + "</s>");
    assertThat(tokenizer.decode(row.inputIds(), false)).isEqualTo("<s>" + clean(prompt) + clean(completion) + "</s>");
  }

  @Property(tries = 200)
  void theAnswersAreLearned(@ForAll @Size(min = 2, max = 8) List<String> texts, @ForAll @IntRange(min = 1, max = 3) int way, @ForAll boolean last) {
    MaskBy by = MaskBy.values()[way];
    ObjectNode json = MAPPER.createObjectNode();
    List<String> answers = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      String text = clean(texts.get(i));
      json.withArray("messages").addObject().put("role", i % 2 == 0 ? "user" : "assistant").put("content", text);
      if (i % 2 == 1) {
        answers.add(text + "<|im_end|>" + (by == MaskBy.TURNS ? "\n" : ""));
      }
    }
    List<String> wanted = last ? answers.subList(answers.size() - 1, answers.size()) : answers;
    Made made = made(json, by, last ? TrainOn.LAST : TrainOn.ALL);
    assertThat(learned(made.whole())).isEqualTo(String.join("", wanted));
    assertThat(made.ends()).isTrue();
  }
}
