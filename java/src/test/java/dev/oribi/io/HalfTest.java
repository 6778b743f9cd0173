package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.SplittableRandom;
import java.util.function.IntToDoubleFunction;
import org.junit.jupiter.api.Test;

class HalfTest {
  @Test
  void everyPatternSurvivesTheWayThroughFloat() {
    for (int i = 0; i < 1 << 16; i++) {
      short bits = (short) i;
      float bf16 = Half.fromBf16(bits);
      float f16 = Half.fromF16(bits);
      assertThat(Float.isNaN(bf16) ? Float.isNaN(Half.fromBf16(Half.toBf16(bf16))) : Half.toBf16(bf16) == bits).as("bf16 %04x", i).isTrue();
      assertThat(Float.isNaN(f16) ? Float.isNaN(Half.fromF16(Half.toF16(f16))) : Half.toF16(f16) == bits).as("f16 %04x", i).isTrue();
    }
  }

  @Test
  void knownValues() {
    assertThat(Half.fromF16((short) 0x3c00)).isEqualTo(1f);
    assertThat(Half.fromF16((short) 0x3555)).isEqualTo(0.33325195f);
    assertThat(Half.fromF16((short) 0x7bff)).isEqualTo(65504f);
    assertThat(Half.fromF16((short) 0x0001)).isEqualTo(0x1p-24f);
    assertThat(Half.fromF16((short) 0xfc00)).isEqualTo(Float.NEGATIVE_INFINITY);
    assertThat(Half.toF16(65519.996f)).isEqualTo((short) 0x7bff);
    assertThat(Half.toF16(65520f)).isEqualTo((short) 0x7c00);
    assertThat(Half.toF16(-0f)).isEqualTo((short) 0x8000);
    assertThat(Half.fromBf16((short) 0x4049)).isEqualTo(3.140625f);
    assertThat(Half.toBf16((float) Math.PI)).isEqualTo((short) 0x4049);
    assertThat(Half.toBf16(Float.MAX_VALUE)).isEqualTo((short) 0x7f80);
    assertThat(Half.toBf16(Float.intBitsToFloat(0x7f800001))).matches(bits -> Float.isNaN(Half.fromBf16(bits)));
  }

  @Test
  void roundsToTheNearestAndTiesToEven() {
    SplittableRandom random = new SplittableRandom(17);
    for (int i = 0; i < 1_000_000; i++) {
      float x = Float.intBitsToFloat(random.nextInt() & 0x7fffffff);
      if (Float.isFinite(x)) {
        checkNearest(x, Half.toBf16(x) & 0xffff, 0x7f80, HalfTest::bf16);
        float small = (float) Math.scalb(1 + random.nextDouble(), random.nextInt(-27, 17));
        checkNearest(small, Half.toF16(small) & 0xffff, 0x7c00, HalfTest::f16);
        // halfway between two neighbours
        int h = random.nextInt(0x7bff);
        float tie = (Half.fromF16((short) h) + Half.fromF16((short) (h + 1))) / 2;
        checkNearest(tie, Half.toF16(tie) & 0xffff, 0x7c00, HalfTest::f16);
      }
    }
  }

  /** No neighbour is closer; of two equally close ones the even pattern was taken. */
  private static void checkNearest(float x, int bits, int infinity, IntToDoubleFunction value) {
    double error = Math.abs(value.applyAsDouble(bits) - x);
    for (int neighbour = Math.max(0, bits - 1); neighbour <= Math.min(infinity, bits + 1); neighbour++) {
      double other = Math.abs(value.applyAsDouble(neighbour) - x);
      boolean holds = error < other || neighbour == bits || error == other && bits % 2 == 0;
      if (!holds) {
        throw new AssertionError(x + " became " + value.applyAsDouble(bits) + ", " + value.applyAsDouble(neighbour) + " is better");
      }
    }
  }

  /** The value of a pattern from its definition; infinity counts as the next power of two, as IEEE rounding has it. */
  private static double bf16(int bits) {
    return value(bits, 8, 7);
  }

  private static double f16(int bits) {
    return value(bits, 5, 10);
  }

  private static double value(int bits, int exponentBits, int mantissaBits) {
    int exponent = bits >>> mantissaBits;
    int mantissa = bits & (1 << mantissaBits) - 1;
    int bias = (1 << exponentBits - 1) - 1;
    return exponent == 0
        ? Math.scalb((double) mantissa, 1 - bias - mantissaBits)
        : Math.scalb((double) (mantissa + (1 << mantissaBits)), exponent - bias - mantissaBits);
  }
}
