package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.data.MicroBatch;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.program.RowBuckets;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.ReplayingDevice;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/**
 * Batches that are rounded up for recordings: losses and gradients are those of the batch alone, but for the rounding of
 * products that have more rows.
 */
class RoundedRowsTest {
  private static final long SEED = 8;
  private static final int BATCHES = 12;
  private static final int TOKENS = 640;
  private static final Plan PLAN = Plan.DEFAULT.tokens(TOKENS);
  private static final LoraConfig LORA = LoraConfig.of(4, 8, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);

  /** The library of products rounds the last rows of a matrix in another way, and sums over tokens have another order. */
  private static final double FLOAT32 = 1e-5;

  /** The same, and where it falls near the middle between two numbers of 16 bits the other one is stored. */
  private static final double BFLOAT16 = 2e-2;

  private static Machine machine(boolean records) {
    Machine.Options options = Machine.Options.DEFAULT.withCudaGraph(records).withDeterministic(true);
    Machine m = TestMachine.open(2, options);
    return records
        ? new Machine(new ReplayingDevice(m.device()), m.kernels(), m.gemm(), m.attention(), m.ahead(), m.lanes(), options, "")
        : m;
  }

  private static StepFixture fixture(Training training, Plan plan, boolean records) {
    return new StepFixture(TinyModels.small(false), training, plan, SEED, machine(records));
  }

  /** Up to 16 sequences of which each may be masked in part; together they fit. */
  private static List<Sequence> batch(Random random) {
    List<Sequence> rows = new ArrayList<>();
    int room = 40 + random.nextInt(TOKENS - 40);
    int most = 1 + random.nextInt(16);
    while (rows.size() < most && room > 1) {
      int length = 1 + random.nextInt(Math.min(room, 200));
      Sequence s = TinyModels.sequence(random, length, 512);
      rows.add(random.nextBoolean() ? s : TinyModels.masked(s, random.nextInt(length + 1)));
      room -= length;
    }
    return rows;
  }

  @Test
  void lossesAndGradientsAreThoseOfTheBatchAlone() {
    Random random = new Random(SEED);
    for (DType type : List.of(DType.F32, DType.BF16)) {
      Worst worst = new Worst();
      for (Training training : List.of(Training.FULL, Training.adapter(LORA))) {
        try (StepFixture alone = fixture(training, PLAN.type(type), false);
            StepFixture rounded = fixture(training, PLAN.type(type), true)) {
          for (int i = 0; i < BATCHES; i++) {
            compare(alone, rounded, batch(random), worst);
          }
        }
      }
      System.out.printf("rounded rows, %s: losses differ by up to %.1e, gradients by %.1e of the largest of their tensor%n",
          type.label(), worst.loss, worst.gradient);
      assertThat(worst.loss).isLessThanOrEqualTo(type == DType.F32 ? FLOAT32 : BFLOAT16);
      assertThat(worst.gradient).isLessThanOrEqualTo(type == DType.F32 ? FLOAT32 : BFLOAT16);
    }
  }

  private static final class Worst {
    double loss;
    double gradient;
  }

  private static void compare(StepFixture alone, StepFixture rounded, List<Sequence> rows, Worst worst) {
    MicroBatch batch = TinyModels.batch(rows);
    double heldOut = alone.step().evaluate(batch);
    worst.loss = Math.max(worst.loss, Math.abs(rounded.step().evaluate(batch) - heldOut) / Math.max(1, heldOut));
    alone.microStep(rows);
    rounded.microStep(rows);
    float[] expected = alone.step().lastLosses();
    float[] found = rounded.step().lastLosses();
    assertThat(found).hasSameSizeAs(expected);
    for (int i = 0; i < expected.length; i++) {
      worst.loss = Math.max(worst.loss, Math.abs(found[i] - expected[i]) / Math.max(1, expected[i]));
    }
    Map<String, float[]> gradients = rounded.gradients();
    alone.gradients().forEach((name, g) -> {
      double largest = 0;
      double off = 0;
      for (int i = 0; i < g.length; i++) {
        largest = Math.max(largest, Math.abs(g[i]));
        off = Math.max(off, Math.abs(gradients.get(name)[i] - g[i]));
      }
      assertThat(off).as(name).isFinite();
      worst.gradient = Math.max(worst.gradient, largest == 0 ? off : off / largest);
    });
    alone.step().clearGradients();
    rounded.step().clearGradients();
  }

  /** Exactly: the same numbers of rows with other tokens in the padding. Nothing that is learned or measured reads them. */
  @Test
  void whatThePaddingHoldsChangesNoBit() {
    for (Training training : List.of(Training.FULL, Training.adapter(LORA))) {
      for (DType type : List.of(DType.F32, DType.BF16)) {
        try (StepFixture f = fixture(training, PLAN.type(type), false)) {
          List<Sequence> rows = TinyModels.sequences(SEED, 512, 57, 133, 61);
          double loss = 0;
          Map<String, float[]> gradients = null;
          for (int seed = 1; seed <= 3; seed++) {
            List<Sequence> padded = new ArrayList<>(rows);
            TinyModels.sequences(100 + seed, 512, 133, 6).forEach(s -> padded.add(TinyModels.masked(s, s.ids().length)));
            double found = f.microStep(padded);
            Map<String, float[]> g = f.gradients();
            f.step().clearGradients();
            if (gradients == null) {
              loss = found;
              gradients = g;
              continue;
            }
            assertThat(found).isEqualTo(loss);
            Map<String, float[]> expected = gradients;
            g.forEach((name, values) -> assertThat(values).as(name).isEqualTo(expected.get(name)));
          }
        }
      }
    }
  }

  /** Every batch has other numbers of rows, and still nearly all of them are replayed. */
  @Test
  void differentBatchesAreReplayed() {
    Random random = new Random(SEED);
    Training training = Training.adapter(LORA);
    try (StepFixture f = fixture(training, PLAN, true)) {
      int steps = 200;
      for (int i = 0; i < steps; i++) {
        List<Sequence> rows = TinyModels.sequences(i, 512, 100 + random.nextInt(8), 90 + random.nextInt(8), 80 + random.nextInt(8));
        f.microStep(List.of(rows.get(0), TinyModels.masked(rows.get(1), random.nextInt(90)), rows.get(2)));
      }
      assertThat(f.step().executor().replays()).as("of two recordings a step").isGreaterThan(2 * steps * 9 / 10);
    }
  }

  @Test
  void paddingRepeatsTheLongestSequenceAndHasNoTarget() {
    MicroBatch batch = TinyModels.batch(TinyModels.sequences(SEED, 512, 70, 130, 90));
    BatchRows rows = BatchRows.of(batch, new RowBuckets(TOKENS, 130));
    assertThat(rows.ids()).hasSize(296);
    assertThat(rows.cuSeqlens()).isEqualTo(new int[] {0, 70, 200, 290, 296});
    assertThat(rows.targetRows()).isEqualTo(BatchRows.of(batch).targetRows());
    assertThat(rows.labels()).isEqualTo(BatchRows.of(batch).labels());
    assertThat(Arrays.copyOfRange(rows.ids(), 290, 296)).isEqualTo(Arrays.copyOfRange(batch.inputIds(), 70, 76));
    assertThat(Arrays.copyOfRange(rows.positions(), 290, 296)).isEqualTo(new int[] {0, 1, 2, 3, 4, 5});
  }

  /** With dropout nothing can be replayed, and then nothing is added. */
  @Test
  void withDropoutNothingIsAdded() {
    LoraConfig dropout = LoraConfig.of(4, 8, 0.2, LoraConfig.ALL_LINEAR, false, List.of(), null);
    List<Sequence> rows = batch(new Random(SEED));
    try (StepFixture alone = fixture(Training.adapter(dropout), PLAN, false);
        StepFixture records = fixture(Training.adapter(dropout), PLAN, true)) {
      assertThat(records.microStep(rows)).isEqualTo(alone.microStep(rows));
      Map<String, float[]> expected = alone.gradients();
      records.gradients().forEach((name, g) -> assertThat(g).as(name).isEqualTo(expected.get(name)));
    }
  }
}
