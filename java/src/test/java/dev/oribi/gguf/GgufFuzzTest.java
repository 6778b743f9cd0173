package dev.oribi.gguf;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import java.util.Arrays;
import java.util.Random;

/**
 * Files with damage drawn from a seed: bits flipped, numbers replaced by extreme ones, pieces cut, doubled or swapped. Whatever
 * comes, the reader either gives a file whose every tensor can be read, or one message.
 */
class GgufFuzzTest {
  private static final long[] EXTREME =
      {0, -1, 1, 1L << 31, (1L << 31) - 1, 1L << 32, Long.MIN_VALUE, Long.MAX_VALUE, 1L << 40, 255, 256, 1L << 60};

  @Property(tries = 3000)
  void opensOrExplains(@ForAll long seed, @ForAll @IntRange(min = 1, max = 6) int wounds) throws IOException {
    Path folder = Files.createTempDirectory("gguf-fuzz");
    Path file = folder.resolve("f.gguf");
    try {
      byte[] bytes = Files.readAllBytes(GgufFileTest.write(file));
      Random random = new Random(seed);
      for (int i = 0; i < wounds; i++) {
        bytes = wound(bytes, random);
      }
      Files.write(file, bytes);
      open(file);
    } finally {
      Files.deleteIfExists(file);
      Files.delete(folder);
    }
  }

  private static void open(Path file) {
    try (GgufFile opened = GgufFile.open(file)) {
      for (GgufTensor t : opened.tensors().values()) {
        assertThat(t.elements()).isLessThan(1 << 20);
        opened.readFloats(t, 0, FloatBuffer.allocate((int) t.elements()));
      }
    } catch (OribiException e) {
      assertThat(e.getMessage()).isNotBlank();
    }
  }

  private static byte[] wound(byte[] bytes, Random random) {
    if (bytes.length < 16) {
      return bytes;
    }
    int at = random.nextInt(bytes.length - 8);
    byte[] copy = bytes.clone();
    switch (random.nextInt(5)) {
      case 0 -> copy[at] ^= (byte) (1 << random.nextInt(8));
      case 1 -> {
        long extreme = EXTREME[random.nextInt(EXTREME.length)];
        for (int i = 0; i < (random.nextBoolean() ? 8 : 4); i++) {
          copy[at + i] = (byte) (extreme >>> 8 * i);
        }
      }
      case 2 -> {
        return Arrays.copyOf(bytes, at);
      }
      case 3 -> {
        int n = Math.min(1 + random.nextInt(64), bytes.length - at);
        copy = Arrays.copyOf(bytes, bytes.length + n);
        System.arraycopy(bytes, at, copy, at + n, bytes.length - at);
      }
      default -> {
        int to = random.nextInt(bytes.length - 8);
        System.arraycopy(bytes, at, copy, to, 8);
      }
    }
    return copy;
  }
}
