package dev.oribi.gguf;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.text.TestData;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Blocks against those that ggml made of the same weights (data set ggml-quant), and against bounds of their own error. */
class GgmlBlocksTest {
  private static final String SET = "ggml-quant/wq0.";

  /** Bytes of ggml, from a real weight of 4096 values. */
  @ParameterizedTest
  @EnumSource
  void encodesAsGgmlDoes(GgmlType type) throws IOException {
    float[] x = floats(TestData.file(SET + "f32"));
    byte[] ours = bytes(GgmlBlocks.encode(type, x, x.length));
    byte[] theirs = type == GgmlType.F32
        ? Files.readAllBytes(TestData.file(SET + "f32"))
        : Files.readAllBytes(TestData.file(SET + fileName(type) + ".bin"));
    assertThat(ours).hasSameSizeAs(theirs);
    int differ = 0;
    for (int i = 0; i < ours.length; i += type.blockBytes()) {
      differ += Arrays.equals(ours, i, i + type.blockBytes(), theirs, i, i + type.blockBytes()) ? 0 : 1;
    }
    assertThat(differ).as(type + ": blocks of " + ours.length / type.blockBytes() + " that differ from ggml's").isZero();
  }

  /** The names in the data set: {@code q4_0}, but {@code q4_K}. */
  private static String fileName(GgmlType type) {
    String name = type.name().toLowerCase(java.util.Locale.ROOT);
    return name.endsWith("_k") ? name.replace("_k", "_K") : name;
  }

  /** ggml's expansion of ggml's blocks, to the bit. */
  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"})
  void decodesAsGgmlDoes(GgmlType type) throws IOException {
    ByteBuffer blocks = ByteBuffer.wrap(Files.readAllBytes(TestData.file(SET + fileName(type) + ".bin")));
    float[] theirs = floats(TestData.file(SET + fileName(type) + ".dequantized.f32"));
    float[] ours = new float[theirs.length];
    GgmlBlocks.decode(type, blocks, ours, 0, ours.length);
    assertThat(ours).isEqualTo(theirs);
  }

  /** Random weights come back within what ggml's own tests allow for the type; extremes come back too. */
  @ParameterizedTest
  @EnumSource
  void losesLittle(GgmlType type) {
    float[] x = new float[8192];
    Random random = new Random(7);
    for (int i = 0; i < x.length; i++) {
      x[i] = (float) random.nextGaussian();
    }
    float[] back = new float[x.length];
    GgmlBlocks.decode(type, GgmlBlocks.encode(type, x, x.length), back, 0, x.length);
    double squares = 0;
    for (int i = 0; i < x.length; i++) {
      squares += (x[i] - back[i]) * (x[i] - back[i]);
    }
    double rms = Math.sqrt(squares / x.length);
    double most = switch (type) {
      case F32 -> 0;
      case F16 -> 4e-4;
      case BF16 -> 3e-3;
      case Q8_0 -> 0.008;
      case Q6_K -> 0.024;
      case Q5_0, Q5_1, Q5_K -> 0.055;
      case Q4_0, Q4_1, Q4_K -> 0.1;
    };
    assertThat(rms).as(type.name()).isLessThanOrEqualTo(most);
  }

  @ParameterizedTest
  @EnumSource
  void keepsZerosAndConstants(GgmlType type) {
    float[] x = new float[512];
    Arrays.fill(x, 256, 512, -0.5f);
    float[] back = new float[512];
    GgmlBlocks.decode(type, GgmlBlocks.encode(type, x, x.length), back, 0, x.length);
    for (int i = 0; i < 512; i++) {
      assertThat(back[i] + 0f).as("element " + i).isBetween(i < 256 ? 0 : -0.505f, i < 256 ? 0 : -0.495f);
    }
  }

  @Test
  void refusesPartsOfBlocks() {
    assertThat(GgmlType.Q4_K.fits(192)).isFalse();
    org.assertj.core.api.Assertions.assertThatThrownBy(() -> GgmlBlocks.encode(GgmlType.Q4_K, new float[192], 192))
        .isInstanceOf(ArithmeticException.class);
  }

  private static byte[] bytes(ByteBuffer b) {
    byte[] bytes = new byte[b.remaining()];
    b.get(bytes);
    return bytes;
  }

  private static float[] floats(Path file) throws IOException {
    ByteBuffer b = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    float[] x = new float[b.remaining() / 4];
    b.asFloatBuffer().get(x);
    return x;
  }
}
