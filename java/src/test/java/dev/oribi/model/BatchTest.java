package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ExactGemm;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.RowRounding;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.TrainableTensor.Part;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** The same eight rows give the same gradients however they are cut into micro-batches, laid out, chunked or stored. */
class BatchTest {
  private static final long SEED = 21;
  private static final double SAME = 1e-6;

  /** The products with A and B are so small that OpenBLAS takes other code below some row count, and adds in another order. */
  private static final double SAME_ADAPTER = 3e-6;
  private static final int[] LENGTHS = {57, 73, 61, 59, 88, 69, 58, 80};

  private static final Plan PLAN = Plan.DEFAULT.tokens(560);

  private static final LoraConfig LORA =
      LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of("embed_tokens"), null);
  private static final List<Training> TRAININGS = List.of(Training.FULL, Training.adapter(LORA));

  private static List<Sequence> rows() {
    List<Sequence> rows = new ArrayList<>(TinyModels.sequences(SEED, 512, LENGTHS));
    rows.set(4, TinyModels.masked(rows.get(4), 30));
    return rows;
  }

  private static StepFixture fixture(Training training, Plan plan) {
    return new StepFixture(TinyModels.small(false), training, plan, SEED);
  }

  /** Gradients after all rows went through in micro-batches of {@code size}, each scaled by all targets there are. */
  private static Map<String, float[]> accumulated(StepFixture f, List<Sequence> rows, int size) {
    f.step().clearGradients();
    double scale = 1.0 / TinyModels.targets(rows);
    for (int at = 0; at < rows.size(); at += size) {
      f.step().microStep(TinyModels.batch(rows.subList(at, at + size)), scale, at);
    }
    return f.gradients();
  }

  private static double worst(Map<String, float[]> found, Map<String, float[]> expected) {
    return worst(found, expected, RowRounding.limit(SAME), RowRounding.limit(SAME_ADAPTER));
  }

  private static double worst(Map<String, float[]> found, Map<String, float[]> expected, double same, double sameAdapter) {
    assertThat(found.keySet()).isEqualTo(expected.keySet());
    double worst = 0;
    for (Map.Entry<String, float[]> e : expected.entrySet()) {
      double distance = Compare.relative(found.get(e.getKey()), e.getValue());
      double allowed = e.getKey().startsWith("base_model.") ? sameAdapter : same;
      assertThat(!(distance <= allowed)).as("%s is off by %g", e.getKey(), distance).isFalse();
      worst = Math.max(worst, distance);
    }
    return worst;
  }

  @Test
  void batchTimesAccumulation() {
    for (Training training : TRAININGS) {
      try (StepFixture f = fixture(training, PLAN)) {
        Map<String, float[]> expected = accumulated(f, rows(), 8);
        double worst = 0;
        for (int size : new int[] {4, 2, 1}) {
          worst = Math.max(worst, worst(accumulated(f, rows(), size), expected));
        }
        System.out.printf("8 rows as 8x1, 4x2, 2x4, 1x8: gradients differ by %.1e%n", worst);
      }
    }
  }

  /** With products that round each row alike, on any machine: what is left is our own kernels and the sums over batches. */
  @Test
  void batchTimesAccumulationWithExactProducts() {
    for (Training training : TRAININGS) {
      Machine plain = TestMachine.open(2);
      Machine exact = new Machine(plain.device(), plain.kernels(), new ExactGemm(plain.device()));
      try (StepFixture f = new StepFixture(TinyModels.small(false), training, PLAN, SEED, exact)) {
        Map<String, float[]> expected = accumulated(f, rows(), 8);
        double worst = 0;
        for (int size : new int[] {4, 2, 1}) {
          worst = Math.max(worst, worst(accumulated(f, rows(), size), expected, SAME, SAME));
        }
        System.out.printf("exact products, 8x1, 4x2, 2x4, 1x8: gradients differ by %.1e%n", worst);
      }
    }
  }

  /** Packing puts rows beside each other in any order; none sees its neighbours. */
  @Test
  void orderOfTheRowsInAPackedBatch() {
    for (Training training : TRAININGS) {
      try (StepFixture f = fixture(training, PLAN)) {
        Map<String, float[]> expected = accumulated(f, rows(), 8);
        List<Sequence> shuffled = new ArrayList<>(rows());
        Collections.shuffle(shuffled, new Random(SEED));
        worst(accumulated(f, shuffled, 8), expected);
      }
    }
  }

  /** Tokens after the last target, such as padding, change nothing. */
  @Test
  void rowsPaddedToOneLength() {
    List<Sequence> padded = new ArrayList<>();
    for (Sequence s : rows()) {
      int[] ids = Arrays.copyOf(s.ids(), 88);
      int[] labels = Arrays.copyOf(s.labels(), 88);
      Arrays.fill(labels, s.ids().length, 88, -100);
      padded.add(new Sequence(ids, labels));
    }
    for (Training training : TRAININGS) {
      try (StepFixture f = fixture(training, PLAN.tokens(8 * 88))) {
        Map<String, float[]> expected = accumulated(f, rows(), 8);
        for (int size : new int[] {8, 4, 2, 1}) {
          worst(accumulated(f, padded, size), expected);
        }
      }
    }
  }

  @Test
  void sizeOfTheChunksOfLogits() {
    for (Training training : TRAININGS) {
      try (StepFixture whole = fixture(training, PLAN);
          StepFixture single = fixture(training, PLAN.logitsBudget(1));
          StepFixture seven = fixture(training, PLAN.logitsBudget(7 * 512 * 4))) {
        Map<String, float[]> expected = accumulated(whole, rows(), 8);
        worst(accumulated(single, rows(), 8), expected);
        worst(accumulated(seven, rows(), 8), expected);
      }
    }
  }

  @Test
  void theSameSeedGivesTheSameBits() {
    LoraConfig dropout = LoraConfig.of(8, 16, 0.1, LoraConfig.ALL_LINEAR, false, List.of(), null);
    for (Training training : List.of(Training.FULL, Training.adapter(dropout))) {
      try (StepFixture one = fixture(training, PLAN.maxGradNorm(1));
          StepFixture two = fixture(training, PLAN.maxGradNorm(1).checkpointing(true))) {
        for (int step = 1; step <= 3; step++) {
          assertThat(two.microStep(rows())).isEqualTo(one.microStep(rows()));
          assertThat(two.step().update(step, 1e-3)).isEqualTo(one.step().update(step, 1e-3));
        }
        Map<String, float[]> expected = one.parts(Part.VALUE);
        two.parts(Part.VALUE).forEach((name, values) -> assertThat(values).as(name).isEqualTo(expected.get(name)));
      }
    }
  }

  /** Eight bits of mantissa through three layers: the loss stays within 0.3 %, each gradient within 6 %. */
  @Test
  void bfloat16IsNearFloat32() {
    for (Training training : TRAININGS) {
      try (StepFixture exact = fixture(training, PLAN);
          StepFixture half = fixture(training, PLAN.type(DType.BF16))) {
        double loss = exact.microStep(rows());
        double off = Math.abs(half.microStep(rows()) - loss) / loss;
        Map<String, float[]> g = exact.gradients();
        double worst = 0;
        for (Map.Entry<String, float[]> e : half.gradients().entrySet()) {
          double distance = Compare.relative(e.getValue(), g.get(e.getKey()));
          assertThat(!(distance <= 0.06)).as("%s is off by %g", e.getKey(), distance).isFalse();
          worst = Math.max(worst, distance);
        }
        System.out.printf("bfloat16: loss off by %.1e, gradients by up to %.1e%n", off, worst);
        assertThat(off).isBetween(1e-9, 3e-3);
        assertThat(half.step().update(1, 1e-3)).isFinite();
      }
    }
  }
}
