package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.kernel.DType;
import dev.oribi.layer.Saving;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.optim.LossScale;
import dev.oribi.program.Executor;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.MemoryPlan.Choice;
import dev.oribi.train.TrainableTensor.Part;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Whole training on a GPU: its losses are those of the CPU, and a replayed step has the bits of an issued one. */
class GpuTrainingTest {
  private static final long SEED = 11;
  private static final int STEPS = 20;
  private static final double LEARNING_RATE = 3e-3;
  private static final Plan PLAN = Plan.DEFAULT.tokens(256).maxGradNorm(1);
  private static final LoraConfig LORA = LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);

  /** fp32 sums in another order, through 20 updates. */
  private static final double FLOAT32 = 1e-4;

  /** Rounding to eight bits takes part in every activation, and each update carries on what the last one rounded. */
  private static final double BFLOAT16 = 2e-2;

  /** As in bf16, with three bits more. */
  private static final double FLOAT16 = BFLOAT16 / 8;

  /** Heads for which cuDNN would be taken where it may. */
  private static final ModelConfig HEADS_OF_64 = TinyModels.config(128, 344, 3, 4, 2, 64, 512, "silu", false);

  @BeforeEach
  void onAGpu() {
    TestMachine.needsCuda();
  }

  private static List<Sequence> rows() {
    List<Sequence> rows = new ArrayList<>(TinyModels.sequences(SEED, 512, 57, 33, 61, 40));
    rows.set(1, TinyModels.masked(rows.get(1), 12));
    return rows;
  }

  private static StepFixture fixture(Training training, Plan plan, Machine machine) {
    return new StepFixture(TinyModels.small(false), training, plan, SEED, machine);
  }

  private static Machine gpu(boolean graph) {
    // Deterministic: cuDNN's backward pass of attention is not, and then no two runs could be compared bit by bit.
    return TestMachine.open(0, Machine.Options.DEFAULT.withCudaGraph(graph).withDeterministic(true));
  }

  private static double[] losses(StepFixture f) {
    return losses(f, LossScale.NONE);
  }

  /** As the trainer does: where gradients overflow, that update is left out and the next is made with half the scale. */
  private static double[] losses(StepFixture f, LossScale first) {
    double[] losses = new double[STEPS];
    int targets = TinyModels.targets(rows());
    LossScale scale = first;
    for (int i = 0; i < STEPS; i++) {
      losses[i] = f.step().microStep(TinyModels.batch(rows()), scale.value() / targets, 3) / targets;
      double norm = f.step().update(i + 1, LEARNING_RATE * (i + 1) / STEPS, scale.value());
      if (Double.isFinite(norm)) {
        scale = scale.afterUpdate();
      } else {
        f.step().clearGradients();
        scale = scale.afterOverflow();
      }
    }
    return losses;
  }

  private static double worst(double[] found, double[] expected) {
    double worst = 0;
    for (int i = 0; i < STEPS; i++) {
      worst = Math.max(worst, Math.abs(found[i] - expected[i]) / expected[i]);
    }
    return worst;
  }

  private static double worst(Training training, DType type) {
    try (StepFixture cpu = fixture(training, PLAN.type(type), TestMachine.cpu());
        StepFixture gpu = fixture(training, PLAN.type(type), gpu(true))) {
      LossScale scale = type == DType.F16 ? LossScale.FIRST : LossScale.NONE;
      double[] expected = losses(cpu, scale);
      double[] found = losses(gpu, scale);
      assertThat(expected[STEPS - 1]).as("it learns").isLessThan(0.8 * expected[0]);
      assertThat(gpu.step().executor().replays()).as("replayed programs").isGreaterThan(STEPS);
      double worst = worst(found, expected);
      System.out.printf(
          "%s %s: loss %.6f to %.6f on the CPU, %.6f on the GPU; worst of %d steps off by %.1e%n", type.label(),
          training.full() ? "full" : "adapter", expected[0], expected[STEPS - 1], found[STEPS - 1], STEPS, worst);
      return worst;
    }
  }

  @Test
  void lossesAreThoseOfTheCpu() {
    assertThat(worst(Training.FULL, DType.F32)).isLessThanOrEqualTo(FLOAT32);
    assertThat(worst(Training.adapter(LORA), DType.F32)).isLessThanOrEqualTo(FLOAT32);
  }

  @Test
  void lossesAreThoseOfTheCpuInBfloat16() {
    assertThat(worst(Training.FULL, DType.BF16)).isLessThanOrEqualTo(BFLOAT16);
    assertThat(worst(Training.adapter(LORA), DType.BF16)).isLessThanOrEqualTo(BFLOAT16);
  }

  /** With the loss scale of a run in fp16. */
  @Test
  void lossesAreThoseOfTheCpuInFloat16() {
    assertThat(worst(Training.FULL, DType.F16)).isLessThanOrEqualTo(FLOAT16);
    assertThat(worst(Training.adapter(LORA), DType.F16)).isLessThanOrEqualTo(FLOAT16);
  }

  /** With a factor that is far too large nothing is updated until it has come down; from there on the model learns. */
  @Test
  void anOverflowInFloat16LeavesTheUpdateOut() {
    Training training = Training.adapter(LORA);
    try (StepFixture f = fixture(training, PLAN.type(DType.F16), gpu(true))) {
      Map<String, float[]> before = f.parts(Part.VALUE);
      LossScale scale = new LossScale(0x1p40, 0);
      f.step().microStep(TinyModels.batch(rows()), scale.value(), 3);
      assertThat(f.step().update(1, LEARNING_RATE, scale.value())).as("norm").isNotFinite();
      f.parts(Part.VALUE).forEach((name, v) -> assertThat(v).as(name).isEqualTo(before.get(name)));
      f.parts(Part.MOMENT2).forEach((name, v) -> assertThat(v).as(name).containsOnly(0));
      f.step().clearGradients();
      double[] losses = losses(f, new LossScale(0x1p24, 0));
      assertThat(losses[1]).as("the first update of this scale overflows too").isEqualTo(losses[0]);
      assertThat(losses[STEPS - 1]).as("it learns").isLessThan(0.9 * losses[0]);
    }
  }

  /** In all types, whole and as an adapter, with heads for which cuDNN would be taken were it not for this option. */
  @Test
  void aDeterministicRunHasTheSameBitsAgain() {
    for (DType type : List.of(DType.F32, DType.BF16, DType.F16)) {
      LossScale scale = type == DType.F16 ? LossScale.FIRST : LossScale.NONE;
      for (Training training : List.of(Training.FULL, Training.adapter(LORA))) {
        try (StepFixture first = new StepFixture(HEADS_OF_64, training, PLAN.type(type), SEED, gpu(true));
            StepFixture again = new StepFixture(HEADS_OF_64, training, PLAN.type(type), SEED, gpu(true))) {
          assertThat(losses(again, scale)).as("%s", type).isEqualTo(losses(first, scale));
          for (Part part : List.of(Part.VALUE, Part.MOMENT1, Part.MOMENT2)) {
            Map<String, float[]> expected = first.parts(part);
            again.parts(part).forEach((name, v) -> assertThat(v).as(name).isEqualTo(expected.get(name)));
          }
        }
      }
    }
  }

  /** Whichever attention the card's default is: over heads that cuDNN serves, as close to the CPU as the own kernels. */
  @Test
  void lossesAreThoseOfTheCpuWithTheCardsOwnChoiceOfAttention() {
    for (Training training : List.of(Training.FULL, Training.adapter(LORA))) {
      try (StepFixture cpu = new StepFixture(HEADS_OF_64, training, PLAN.type(DType.BF16), SEED, TestMachine.cpu());
          StepFixture gpu = new StepFixture(HEADS_OF_64, training, PLAN.type(DType.BF16), SEED, TestMachine.open())) {
        double[] expected = losses(cpu);
        double worst = worst(losses(gpu), expected);
        System.out.printf("bfloat16 %s, %s: worst of %d steps off by %.1e%n", training.full() ? "full" : "adapter",
            gpu.machine().attention().describe(), STEPS, worst);
        assertThat(worst).isLessThanOrEqualTo(BFLOAT16);
      }
    }
  }

  /** Batches of two shapes in turn, so that recordings alternate; the learning rate changes in every step. */
  @Test
  void aReplayedStepHasTheSameBits() {
    List<Sequence> other = rows().subList(0, 3);
    for (DType type : List.of(DType.F32, DType.BF16)) {
      for (Training training : List.of(Training.FULL, Training.adapter(LORA))) {
        try (StepFixture issued = fixture(training, PLAN.type(type), gpu(true));
            StepFixture replayed = fixture(training, PLAN.type(type), gpu(true))) {
          issued.step().executor().listen(new Executor.Listener() {}); // Then nothing is replayed.
          for (int i = 1; i <= 8; i++) {
            List<Sequence> batch = i % 2 == 0 ? other : rows();
            assertThat(replayed.microStep(batch)).as("loss %d", i).isEqualTo(issued.microStep(batch));
            assertThat(replayed.step().lastLosses()).isEqualTo(issued.step().lastLosses());
            assertThat(replayed.step().update(i, 1e-3 / i)).as("norm %d", i).isEqualTo(issued.step().update(i, 1e-3 / i));
          }
          assertThat(issued.step().executor().replays()).isZero();
          // Of each shape the first run is issued, the others are two recordings; of norm and update the first of eight is issued.
          assertThat(replayed.step().executor().replays()).isEqualTo(2 * 3 * 2 + 2 * 7);
          for (Part part : List.of(Part.VALUE, Part.MOMENT1, Part.MOMENT2)) {
            Map<String, float[]> expected = issued.parts(part);
            replayed.parts(part).forEach((name, v) -> assertThat(v).as(name).isEqualTo(expected.get(name)));
          }
        }
      }
    }
  }

  /** Copies to and from the host run beside the kernels, in a recording too; waiting for them in the wrong place would show. */
  @Test
  void whatIsRebuiltOrOnTheHostHasTheSameBits() {
    Training training = Training.adapter(LORA);
    int layers = TinyModels.small(false).numHiddenLayers();
    Saving onHost = Saving.REBUILD.with(Tensor.R0, How.OFFLOAD).with(Tensor.QKV, How.OFFLOAD).with(Tensor.O, How.OFFLOAD)
        .with(Tensor.R1, How.OFFLOAD).with(Tensor.GU, How.OFFLOAD);
    try (StepFixture kept = fixture(training, PLAN.type(DType.BF16), gpu(true))) {
      double[] expected = losses(kept);
      for (Saving saving : List.of(Saving.REBUILD, onHost)) {
        Choice choice = new Choice(Collections.nCopies(layers, saving), 0, true, true, 1 << 24);
        try (StepFixture f = fixture(training, PLAN.type(DType.BF16).choice(choice), gpu(true))) {
          assertThat(losses(f)).as(choice.describe(layers)).isEqualTo(expected);
          assertThat(f.step().executor().replays()).isGreaterThan(STEPS);
        }
      }
    }
  }

  /** A program with dropout is issued each time: every micro-batch has a mask of its own. */
  @Test
  void dropoutIsNotReplayed() {
    LoraConfig dropout = LoraConfig.of(8, 16, 0.3, LoraConfig.ALL_LINEAR, false, List.of(), null);
    try (StepFixture f = fixture(Training.adapter(dropout), PLAN, gpu(true))) {
      double first = 0;
      for (int stream = 1; stream <= 4; stream++) {
        double loss = f.step().microStep(TinyModels.batch(rows()), 1e-3, stream);
        assertThat(loss).isNotEqualTo(first);
        first = loss;
      }
      assertThat(f.step().executor().replays()).isZero();
    }
  }
}
