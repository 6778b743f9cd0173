package dev.oribi.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Adapters taken off, put on and changed give what a model that was opened with them gives. */
class AdapterSwapTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final int[] PROMPT = {0, 683, 837, 262, 484};

  @TempDir private Path folder;

  private static int[] text(TextModel model) {
    return model.continueIds(PROMPT, model.greedy(16));
  }

  private static int[] fresh(Path adapter) {
    try (TextModel model = TextModel.open(TINY, adapter, TextModel.Storage.PLAIN, TestMachine.open(), 64)) {
      return text(model);
    }
  }

  private Path adapter(String name, int rank, double size) throws IOException {
    return RandomAdapter.write(Files.createDirectory(folder.resolve(name)), TINY, rank, 8, false, size);
  }

  @Test
  void everySwapIsTheModelOpenedAnew() throws IOException {
    Path a = adapter("a", 4, 0.2);
    Path b = adapter("b", 4, 0.5);
    Path wider = adapter("wider", 8, 0.3);
    int[] base = fresh(null);
    int[] withA = fresh(a);
    assertThat(withA).isNotEqualTo(base);
    try (TextModel model = TextModel.open(TINY, a, TextModel.Storage.PLAIN, TestMachine.open(), 64)) {
      assertThat(text(model)).isEqualTo(withA);
      for (Path next : new Path[] {null, a, b, wider, null, b}) {
        model.useAdapter(next);
        assertThat(text(model)).as("%s", next).isEqualTo(fresh(next));
        assertThat(model.adapter().orElse(null)).isEqualTo(next);
      }
      Path broken = Files.createDirectory(folder.resolve("broken"));
      Files.copy(a.resolve("adapter_config.json"), broken.resolve("adapter_config.json"));
      assertThatThrownBy(() -> model.useAdapter(broken)).isInstanceOf(OribiException.class);
      assertThat(text(model)).as("what was on stays on").isEqualTo(fresh(b));
    }
  }

  /** Neither the new one nor the one before can be loaded: said so, with no use of memory that was given back, until one can. */
  @Test
  void aModelThatCouldNotBeLoadedAgainSaysSo() throws IOException {
    Path a = adapter("a", 4, 0.2);
    Path wider = adapter("wider", 8, 0.3);
    try (TextModel model = TextModel.open(TINY, a, TextModel.Storage.PLAIN, TestMachine.open(), 64)) {
      Files.delete(a.resolve("adapter_model.safetensors"));
      Files.delete(wider.resolve("adapter_model.safetensors"));
      assertThatThrownBy(() -> model.useAdapter(wider)).isInstanceOf(OribiException.class);
      assertThatThrownBy(() -> text(model)).isInstanceOf(OribiException.class).hasMessageContaining("there is no model");
      model.useAdapter(null);
      assertThat(text(model)).isEqualTo(fresh(null));
    }
  }

  /** A template sees the same variables as when rows were rendered to be learned, as transformers gives them. */
  @Test
  void theTemplateSeesAllSpecialTokens() throws IOException {
    Path model = Files.createDirectory(folder.resolve("model"));
    try (Stream<Path> files = Files.list(TINY)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, model.resolve(file.getFileName().toString()));
      }
    }
    Files.writeString(model.resolve("chat_template.jinja"), "{{ pad_token }}{{ messages[0].content }}{{ eos_token }}");
    try (TextModel text = TextModel.open(model, null, TextModel.Storage.PLAIN, TestMachine.open(), 64)) {
      String pad = (String) text.tokenizer().templateVariables().get("pad_token");
      int[] prompt = text.chatPrompt(List.of(Map.of("role", "user", "content", "Once")));
      assertThat(text.tokenizer().decode(prompt, false)).isEqualTo(pad + "Once" + text.tokenizer().eosToken().orElseThrow());
    }
  }
}
