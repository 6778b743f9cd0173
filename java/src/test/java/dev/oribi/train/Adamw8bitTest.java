package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Group;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.optim.OptimizerType;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.TrainableTensor.Part;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** AdamW with moments in 8 bits: how near it stays to fp32, what it takes, and that a checkpoint keeps every bit. */
class Adamw8bitTest {
  private static final long SEED = 5;
  private static final int STEPS = 20;
  private static final double LEARNING_RATE = 3e-3;

  /** The moments have two decimal digits, and each update carries on what the last one rounded; found 3e-4 to 5e-3. */
  private static final double NEAR = 2e-2;

  private static final Plan FLOAT32 = Plan.DEFAULT.tokens(256).maxGradNorm(1);
  private static final Plan IN_8_BITS = FLOAT32.optim(OptimizerType.ADAMW_8BIT);

  /** Rank 3: the tensors' lengths are no multiples of 256, so blocks reach from one into the next. */
  private static final LoraConfig LORA = LoraConfig.of(3, 6, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);

  private static final List<Training> TRAININGS = List.of(Training.FULL, Training.adapter(LORA));

  @TempDir Path folder;

  private static List<Sequence> rows() {
    List<Sequence> rows = new ArrayList<>(TinyModels.sequences(SEED, 512, 57, 33, 61, 40));
    rows.set(1, TinyModels.masked(rows.get(1), 12));
    return rows;
  }

  private static StepFixture fixture(Training training, Plan plan) {
    return new StepFixture(TinyModels.small(false), training, plan, SEED);
  }

  private static double[] steps(StepFixture f, int first, int count) {
    double[] losses = new double[count];
    for (int i = 0; i < count; i++) {
      losses[i] = f.microStep(rows()) / TinyModels.targets(rows());
      f.step().update(first + i, LEARNING_RATE);
    }
    return losses;
  }

  @Test
  void lossesAreNearThoseOfFloat32() {
    for (Training training : TRAININGS) {
      for (DType type : List.of(DType.F32, DType.BF16)) {
        try (StepFixture exact = fixture(training, FLOAT32.type(type));
            StepFixture rounded = fixture(training, IN_8_BITS.type(type))) {
          double[] expected = steps(exact, 1, STEPS);
          double[] found = steps(rounded, 1, STEPS);
          double worst = 0;
          for (int i = 0; i < STEPS; i++) {
            worst = Math.max(worst, Math.abs(found[i] - expected[i]) / expected[i]);
          }
          System.out.printf("8-bit AdamW, %s %s: loss %.4f to %.4f, in fp32 %.4f; worst step off by %.1e%n", type.label(),
              training.full() ? "full" : "adapter", found[0], found[STEPS - 1], expected[STEPS - 1], worst);
          assertThat(found[0]).as("before the first update").isEqualTo(expected[0]);
          assertThat(found[STEPS - 1]).as("it learns").isLessThan(0.8 * found[0]);
          assertThat(worst).as("rounding shows, and is small").isBetween(1e-9, NEAR);
        }
      }
    }
  }

  @Test
  void thePlanIsSmallerByTheBytesOfTheMoments() {
    for (Training training : TRAININGS) {
      try (StepFixture exact = fixture(training, FLOAT32);
          StepFixture rounded = fixture(training, IN_8_BITS)) {
        long saved = 0;
        for (Group g : exact.model().parameters().groups()) {
          saved += 2 * aligned(4 * g.count()) - 2 * aligned(g.count()) - 2 * aligned(4 * ((g.count() + 255) / 256));
        }
        assertThat(saved).isPositive();
        assertThat(exact.step().memoryBytes() - rounded.step().memoryBytes()).isEqualTo(saved);
      }
    }
  }

  private static long aligned(long bytes) {
    return (bytes + 255) / 256 * 256;
  }

  @Test
  void aCheckpointGoesOnToTheSameBits() {
    for (Training training : TRAININGS) {
      Path file = folder.resolve(training.full() ? "full" : "adapter");
      try (StepFixture whole = fixture(training, IN_8_BITS)) {
        steps(whole, 1, 4);
        OptimizerFile.write(file, whole.step());
        double[] expected = steps(whole, 5, 4);
        try (StepFixture resumed = fixture(training, IN_8_BITS)) {
          OptimizerFile.read(file, resumed.step());
          assertThat(steps(resumed, 5, 4)).isEqualTo(expected);
          Map<String, float[]> values = whole.parts(Part.VALUE);
          resumed.parts(Part.VALUE).forEach((name, found) -> assertThat(found).as(name).isEqualTo(values.get(name)));
          assertThat(columns(resumed)).isEqualTo(columns(whole));
        }
      }
    }
  }

  private static List<ByteBuffer> columns(StepFixture f) {
    List<ByteBuffer> all = new ArrayList<>();
    for (StateColumn c : f.step().stateColumns()) {
      ByteBuffer bytes = ByteBuffer.allocate((int) c.elements() * c.type().bits() / 8);
      c.read(0, bytes);
      all.add(bytes.flip());
    }
    assertThat(all).isNotEmpty();
    return all;
  }

  @Test
  void momentsBeginAsZeroAndAreStoredInAByteEach() {
    Path file = folder.resolve("begin");
    try (StepFixture f = fixture(Training.adapter(LORA), IN_8_BITS)) {
      OptimizerFile.write(file, f.step());
      long count = f.model().parameters().groups().get(0).count();
      try (SafetensorsFile in = SafetensorsFile.open(file)) {
        assertThat(in.tensors().keySet()).noneMatch(name -> name.contains("exp_avg"));
        ByteBuffer mean = in.slice(in.tensors().get("adamw.decay.state1"), 0, (int) count);
        ByteBuffer squares = in.slice(in.tensors().get("adamw.decay.state2"), 0, (int) count);
        for (int i = 0; i < count; i++) {
          assertThat(mean.get(i)).isEqualTo((byte) 127);
          assertThat(squares.get(i)).isZero();
        }
        assertThat(in.tensors().get("adamw.decay.absmax1").shape()).containsExactly((count + 255) / 256);
      }
    }
  }

  @Test
  void theOtherOptimizersCheckpointIsRefused() throws Exception {
    try (StepFixture exact = fixture(Training.FULL, FLOAT32);
        StepFixture rounded = fixture(Training.FULL, IN_8_BITS)) {
      OptimizerFile.write(folder.resolve("exact"), exact.step());
      OptimizerFile.write(folder.resolve("rounded"), rounded.step());
      assertThatThrownBy(() -> OptimizerFile.read(folder.resolve("exact"), rounded.step()))
          .isInstanceOf(OribiException.class).hasMessageContaining("in float32").hasMessageContaining("--optim adamw_torch");
      assertThatThrownBy(() -> OptimizerFile.read(folder.resolve("rounded"), exact.step()))
          .isInstanceOf(OribiException.class).hasMessageContaining("in 8 bits").hasMessageContaining("--optim adamw_8bit");
      // 4 + 2 * (1 + 4 / 256) bytes a value in place of 12.
      assertThat((double) Files.size(folder.resolve("rounded")) / Files.size(folder.resolve("exact"))).isBetween(0.49, 0.51);
    }
  }
}
