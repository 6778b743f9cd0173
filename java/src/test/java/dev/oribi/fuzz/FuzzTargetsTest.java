package dev.oribi.fuzz;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Each target on its seeds and on changes of them; without the fuzzer, so that it runs with every build. */
class FuzzTargetsTest {
  private static final int CHANGES = 800;
  private static final byte[] TELLING = {0, -1, 127, -128, '"', '{', '[', '}', ']', ',', '\n', '%', '9', '-', 1, 2, 64};

  static Set<String> targets() {
    return new TreeSet<>(Targets.all().keySet());
  }

  @ParameterizedTest
  @MethodSource("targets")
  @Timeout(120)
  void endsWithARowOrALine(String name) throws IOException {
    List<byte[]> seeds = Seeds.of(name);
    Targets.Target target = Targets.all().get(name);
    for (byte[] seed : seeds) {
      Targets.run(target, seed);
    }
    Random random = new Random(name.hashCode());
    for (int i = 0; i < CHANGES; i++) {
      byte[] input = changed(seeds.get(random.nextInt(seeds.size())), random);
      try {
        Targets.run(target, input);
      } catch (Throwable e) {
        throw new AssertionError(name + ", change " + i + ": " + Arrays.toString(Arrays.copyOf(input, Math.min(input.length, 400))), e);
      }
    }
    assertThat(seeds).isNotEmpty();
  }

  private static byte[] changed(byte[] seed, Random random) {
    byte[] input = seed.clone();
    for (int n = random.nextInt(4); n >= 0 && input.length > 0; n--) {
      int at = random.nextInt(input.length);
      switch (random.nextInt(5)) {
        case 0 -> input[at] ^= (byte) (1 << random.nextInt(8));
        case 1 -> input[at] = TELLING[random.nextInt(TELLING.length)];
        case 2 -> input = Arrays.copyOf(input, at);
        case 3 -> {
          int length = Math.min(random.nextInt(16), input.length - at);
          System.arraycopy(input, at, input, random.nextInt(input.length - length + 1), length);
        }
        default -> {
          byte[] longer = Arrays.copyOf(input, input.length + random.nextInt(24));
          System.arraycopy(input, at, longer, longer.length - (input.length - at), input.length - at);
          input = longer;
        }
      }
    }
    return input;
  }
}
