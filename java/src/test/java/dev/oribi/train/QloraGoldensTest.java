package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.Machine;
import dev.oribi.model.Quantizer;
import dev.oribi.quant.Nf4Format;
import dev.oribi.testing.Compare;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * QLoRA against transformers and PEFT on the dequantized weights: logits, loss and every gradient of the adapter. The files
 * and the script that made them, with an NF4 of its own, lie in {@code models/goldens-qlora}.
 */
class QloraGoldensTest {
  private static final Path GOLDENS = Path.of("..", "models", "goldens-qlora", "goldens");
  private static final double TOLERANCE = 1e-5;

  /** What the loss may be off beside twice PEFT's own error: bfloat16 rounds logits of about 1 by up to 4e-3. */
  private static final double FLOOR = 4e-3;

  @TempDir Path temp;

  @ParameterizedTest
  @ValueSource(strings = {"all-linear", "skips-tied"})
  void inFloat32TheyAreThoseOfPeft(String name) {
    Map<String, float[]> found = trace(name, StorageType.FLOAT32);
    Map<String, float[]> expected = read(GOLDENS.resolve(name).resolve("float32.safetensors"));
    assertThat(found.keySet()).isEqualTo(expected.keySet());
    expected.forEach((tensor, values) -> {
      double error = Compare.relative(found.get(tensor), values);
      assertThat(!(error <= TOLERANCE)).as("%s: relative error %.3g", tensor, error).isFalse();
    });
  }

  /** Held to at most twice the error that PEFT itself makes in bfloat16 against its float32, tensor by tensor. */
  @ParameterizedTest
  @ValueSource(strings = {"all-linear", "skips-tied"})
  void inBfloat16TheyAreAsCloseAsThoseOfPeft(String name) {
    Map<String, float[]> found = trace(name, StorageType.BFLOAT16);
    Map<String, float[]> exact = read(GOLDENS.resolve(name).resolve("float32.safetensors"));
    Map<String, float[]> theirs = read(GOLDENS.resolve(name).resolve("bfloat16.safetensors"));
    double worst = 0;
    for (String tensor : exact.keySet()) {
      double error = Compare.relative(found.get(tensor), exact.get(tensor));
      double allowed = 2 * Compare.relative(theirs.get(tensor), exact.get(tensor)) + FLOOR;
      worst = Math.max(worst, error / allowed);
      assertThat(!(error <= allowed)).as("%s: relative error %.3g, allowed %.3g", tensor, error, allowed).isFalse();
    }
    System.out.printf("%s in bfloat16: at most %.2f of what is allowed%n", name, worst);
  }

  private Map<String, float[]> trace(String name, StorageType type) {
    Path folder = GOLDENS.resolve(name);
    Path out = temp.resolve("trace.safetensors");
    try (Machine machine = TestMachine.open()) {
      Trace.write(folder.resolve("model"), folder.resolve("adapter"), false, folder.resolve("batch.json"), out, type, machine);
    }
    return read(out);
  }

  /** Codes, scales and the scales' scales, against the script's; and what is plain stays plain. */
  @Test
  void quantizingOnLoadGivesTheSameCodes() throws IOException {
    Path written = temp.resolve("written");
    quantizeAndWrite(GOLDENS.resolve("skips-tied").resolve("plain"), written);
    int compared = 0;
    try (Checkpoint ours = Checkpoint.open(written);
        Checkpoint theirs = Checkpoint.open(GOLDENS.resolve("skips-tied").resolve("model"))) {
      for (TensorInfo t : theirs.tensors().values()) {
        boolean codes = Nf4Format.isStored(theirs, t.name()) || t.name().endsWith(Nf4Format.ABSMAX);
        if (codes) {
          assertThat(bytes(ours, t.name())).as(t.name()).isEqualTo(bytes(theirs, t.name()));
          compared++;
        } else if (t.name().endsWith(Nf4Format.NESTED_ABSMAX)) {
          assertThat(Compare.relative(floats(ours, t.name()), floats(theirs, t.name()))).as(t.name()).isLessThan(1e-6);
        }
      }
    }
    // Seven projections of two layers; three MLP matrices and one k_proj are plain in the golden.
    assertThat(compared).isEqualTo(2 * (14 - 4));
  }

  /** What bitsandbytes stored is stored again as it was. */
  @ParameterizedTest
  @ValueSource(strings = {"all-linear", "skips-tied"})
  void aFolderIsWrittenAsItWasRead(String name) throws IOException {
    Path written = temp.resolve("written");
    quantizeAndWrite(GOLDENS.resolve(name).resolve("model"), written);
    try (Checkpoint ours = Checkpoint.open(written);
        Checkpoint theirs = Checkpoint.open(GOLDENS.resolve(name).resolve("model"))) {
      assertThat(ours.tensors().keySet()).isEqualTo(theirs.tensors().keySet());
      for (TensorInfo t : theirs.tensors().values()) {
        assertThat(ours.tensor(t.name()).type()).as(t.name()).isEqualTo(t.type());
        boolean table = t.name().endsWith("quant_map");
        if (table) {
          assertThat(Compare.relative(floats(ours, t.name()), floats(theirs, t.name()))).as(t.name()).isLessThan(1e-7);
        } else if (!t.name().endsWith(Nf4Format.STATE)) {
          assertThat(bytes(ours, t.name())).as(t.name()).isEqualTo(bytes(theirs, t.name()));
        } else {
          String weight = t.name().substring(0, t.name().length() - Nf4Format.STATE.length());
          long[] shape = shape(ours, t.name());
          assertThat(Nf4Format.check(ours, weight, shape)).isEqualTo(Nf4Format.check(theirs, weight, shape));
        }
      }
    }
  }

  private static long[] shape(Checkpoint files, String state) {
    JsonNode json = Json.parse(bytes(files, state), state);
    return new long[] {json.at("/shape/0").asLong(), json.at("/shape/1").asLong()};
  }

  private static void quantizeAndWrite(Path folder, Path to) throws IOException {
    try (Machine machine = TestMachine.open()) {
      Quantizer.write(folder, to, machine);
    }
  }

  private static Map<String, float[]> read(Path file) {
    Map<String, float[]> all = new LinkedHashMap<>();
    try (Checkpoint files = Checkpoint.open(file)) {
      for (TensorInfo t : files.tensors().values()) {
        all.put(t.name(), floats(files, t.name()));
      }
    }
    return all;
  }

  private static float[] floats(Checkpoint files, String name) {
    FloatBuffer values = FloatBuffer.allocate((int) files.tensor(name).elements());
    files.readFloats(files.tensor(name), 0, values);
    return values.array();
  }

  private static byte[] bytes(Checkpoint files, String name) {
    TensorInfo t = files.tensor(name);
    ByteBuffer from = files.fileOf(t).slice(t, 0, (int) t.bytes());
    byte[] bytes = new byte[from.remaining()];
    from.get(bytes);
    return bytes;
  }
}
