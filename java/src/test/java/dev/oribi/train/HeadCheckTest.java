package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.data.DataFiles;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.model.AlikeRows;
import dev.oribi.model.config.LoraConfig;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Answers in letters that the model's head was never trained on are told before the training, and only those. */
class HeadCheckTest {
  private static final Path TINY = Path.of("../models/tiny");

  private static Dataset rows(String file) {
    return RunData.read(TINY.resolve("model"), List.of(TINY.resolve("instruct").resolve(file)), DataFiles.Part.TRAIN,
        new DataOptions(512, 2048, 1, null), new RowSettings());
  }

  private static LoraConfig lora(String... saved) {
    return LoraConfig.of(8, 8, 0, List.of("q_proj"), false, List.of(saved), "tiny");
  }

  @Test
  void tellsOfLettersThatTheModelNeverWrote() {
    assertThat(HeadCheck.warning(TINY.resolve("model"), lora(), rows("german.csv"))).hasValueSatisfying(line ->
        assertThat(line).startsWith("WARNING").contains("(z, ach, ").contains("--modules-to-save lm_head").hasLineCount(1));
    assertThat(HeadCheck.warning(TINY.resolve("model"), lora("lm_head"), rows("german.csv"))).isEmpty();
    assertThat(HeadCheck.warning(TINY.resolve("model"), lora(), rows("train.jsonl"))).isEmpty();
  }

  /** Rows 3, 5 and 9 point the same way, at any length; 7 is zero and so is 8. */
  @Test
  void findsRowsOfOneDirection(@TempDir Path folder) {
    Random random = new Random(4);
    float[][] rows = new float[12][32];
    for (float[] row : rows) {
      IntStream.range(0, row.length).forEach(i -> row[i] = (float) random.nextGaussian());
    }
    for (int like : new int[] {5, 9}) {
      IntStream.range(0, 32).forEach(i -> rows[like][i] = rows[3][i] * like + 1e-3f * (float) random.nextGaussian());
    }
    rows[7] = new float[32];
    rows[8] = new float[32];
    for (String name : List.of("lm_head.weight", "model.embed_tokens.weight")) {
      Path file = folder.resolve(name + ".safetensors");
      SafetensorsWriter.write(file, List.of(new SafetensorsWriter.Tensor(name, TensorType.F32, 12, 32)), SafetensorsWriter.PT, (t, sink) -> {
        for (float[] row : rows) {
          sink.floats(FloatBuffer.wrap(row));
        }
      });
      try (Checkpoint weights = Checkpoint.open(file)) {
        assertThat(AlikeRows.find(weights, List.of(9, 0, 3, 1, 5, 7, 8, 99))).containsExactly(9, 3, 5, 7, 8);
        assertThat(AlikeRows.find(weights, List.of(0, 1, 3))).isEmpty();
      }
    }
  }
}
