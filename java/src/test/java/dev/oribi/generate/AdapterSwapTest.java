package dev.oribi.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.testing.RandomAdapter;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
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
}
