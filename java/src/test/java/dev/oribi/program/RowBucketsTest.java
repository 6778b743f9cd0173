package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import org.junit.jupiter.api.Test;

/** How far numbers of rows are rounded up, and that what is planned for the largest batch has room for every other. */
class RowBucketsTest {
  @Property
  void littleIsAddedAndItHasRoom(
      @ForAll @IntRange(min = 1, max = 300) int sequences,
      @ForAll @IntRange(min = 1, max = 5000) int longest,
      @ForAll long seed) {
    Random random = new Random(seed);
    long n = longest;
    for (int s = 1; s < sequences; s++) {
      n += 1 + random.nextInt(longest);
    }
    long planned = n + random.nextInt(400);
    long plannedSequences = sequences + random.nextInt(9);
    long plannedLongest = Math.min(planned, longest + random.nextInt(400));
    RowBuckets.Counts c = new RowBuckets(planned, plannedLongest).of(n, sequences, longest);

    assertThat(c.tokens()).isBetween(n, Math.min(planned, n + n / 32));
    assertThat(c.sequences()).isBetween((long) sequences, RowBuckets.sequences(plannedSequences));
    assertThat(c.longest()).isBetween((long) longest, Run.lengthBound(plannedLongest, planned));
    long padding = c.tokens() - n;
    assertThat((padding + longest - 1) / longest).as("pieces of padding").isLessThanOrEqualTo(c.sequences() - sequences);
  }

  @Test
  void fewDifferentNumbersAreLeft() {
    RowBuckets buckets = new RowBuckets(8192, 1000);
    Set<RowBuckets.Counts> seen = new HashSet<>();
    for (int n = 2048; n < 4096; n++) {
      seen.add(buckets.of(n, 13 + n % 2, 600 + n % 400));
    }
    assertThat(seen).as("between two powers of two").hasSize(33);
  }

  /** cuDNN has a faster plan for batches of equal sequences; the benchmark's and those of long texts that were cut are such. */
  @Test
  void equalSequencesOfWholeTilesAreLeftAlone() {
    RowBuckets buckets = new RowBuckets(9 * 512, 512);
    assertThat(buckets.of(7 * 512, 7, 512)).isEqualTo(new RowBuckets.Counts(7 * 512, 7, 512));
    assertThat(buckets.of(7 * 500, 7, 500).sequences()).isGreaterThan(7);
  }
}
