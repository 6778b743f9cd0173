package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.Int8;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceDecoder;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Training on a head in 8 bits: loss and gradients are those of the double-precision reference with the head that the codes
 * stand for, whatever the tiles of the vocabulary and the chunks of rows; and who may have such a head.
 */
class HeadIn8BitTest {
  private static final long SEED = 5;
  private static final int V = 97;
  private static final ModelConfig CONFIG = TinyModels.config(64, 96, 1, 4, 2, 16, V, "silu", false);
  private static final FrozenStorage IN_8_BITS = new FrozenStorage(null, true);

  /** Of LoRA in fp32, as in GradientTest. */
  private static final double LOSS = 1e-6;

  private static final double GRADIENT = 1e-5;

  private static final int BYTES_OF_A_ROW = 4 * V;

  private static Training adapter(List<String> modulesToSave) {
    return Training.adapter(LoraConfig.of(2, 4, 0, List.of("o_proj", "down_proj"), false, modulesToSave, null));
  }

  private static List<Sequence> batch() {
    List<Sequence> all = TinyModels.sequences(SEED, V, 21, 1, 17, 4);
    return List.of(all.get(0), all.get(1), TinyModels.masked(all.get(2), 6), all.get(3));
  }

  private record Case(String name, FrozenStorage storage, Training training, Plan plan) {}

  /** A tile takes an eighth of the budget: 58 rows of logits leave room for 10 rows of the vocabulary, in ten tiles. */
  @TestFactory
  Stream<DynamicTest> lossAndGradients() {
    List<Case> cases = List.of(
        new Case("one tile", IN_8_BITS, adapter(List.of()), Plan.DEFAULT),
        new Case("ten tiles", IN_8_BITS, adapter(List.of()), Plan.DEFAULT.logitsBudget(58L * BYTES_OF_A_ROW)),
        new Case("chunks of seven rows", IN_8_BITS, adapter(List.of()), Plan.DEFAULT.logitsBudget(7L * BYTES_OF_A_ROW)),
        new Case("one row of each", IN_8_BITS, adapter(List.of()), Plan.DEFAULT.logitsBudget(1)),
        new Case("layers in 4 bits", new FrozenStorage(QuantizationConfig.ON_LOAD, true), adapter(List.of()), Plan.DEFAULT));
    return cases.stream().map(c -> DynamicTest.dynamicTest(c.name, () -> check(c)));
  }

  private static void check(Case c) {
    List<Sequence> batch = batch();
    try (StepFixture f = new StepFixture(CONFIG, c.training, c.storage, c.plan, SEED)) {
      ReferenceDecoder reference = new ReferenceDecoder(CONFIG, c.training.lora(), f.values(), Map.of());
      double loss = f.microStep(batch);
      double expected = reference.lossSum(batch);
      assertThat(Math.abs(loss - expected) / expected).isLessThanOrEqualTo(LOSS);
      Map<String, float[]> gradients = f.gradients();
      double worst =
          Compare.all(gradients, reference.gradient(batch, gradients.keySet(), 1.0 / TinyModels.targets(batch)), GRADIENT);
      System.out.printf("%-24s loss off by %.1e, gradient by %.1e%n", c.name, Math.abs(loss - expected) / expected, worst);
    }
  }

  /** The plan has the codes and their scales, and no head in the storage type. */
  @Test
  void thePlanKnowsItsBytes() {
    try (StepFixture plain = new StepFixture(CONFIG, adapter(List.of()), new FrozenStorage(null, false), Plan.DEFAULT, SEED);
        StepFixture f = new StepFixture(CONFIG, adapter(List.of()), IN_8_BITS, Plan.DEFAULT, SEED)) {
      assertThat(bytes(plain, Lifetime.WEIGHT_8BIT)).isZero();
      assertThat(bytes(f, Lifetime.WEIGHT_8BIT)).isEqualTo(V * 64L + 4L * V * 64 / Int8.BLOCK);
      assertThat(bytes(f, Lifetime.WEIGHT)).isEqualTo(bytes(plain, Lifetime.WEIGHT) - 4L * V * 64);
    }
  }

  private static long bytes(StepFixture f, Lifetime lifetime) {
    return f.step().plan().permanent().stream().filter(b -> b.lifetime() == lifetime).mapToLong(Buffer::bytes).sum();
  }

  @Test
  void whoMayNotHaveOne() {
    assertThatThrownBy(() -> llama(TinyModels.small(true), adapter(List.of())))
        .hasMessageStartingWith("--head-in-8bit: this model's head is its embedding table");
    assertThatThrownBy(() -> llama(CONFIG, adapter(List.of("lm_head")))).hasMessageContaining("a head in 8 bits cannot learn");
    assertThatThrownBy(() -> llama(CONFIG, Training.FULL)).hasMessageContaining("a head in 8 bits cannot learn");
    assertThatThrownBy(() -> llama(TinyModels.tiny("silu", false), adapter(List.of())))
        .hasMessage("lm_head.weight [13, 10] cannot be in 8 bits: its rows are no multiple of 64 long");
    // A tied model whose embedding learns has a head of its own, which stays frozen.
    llama(TinyModels.small(true), adapter(List.of("embed_tokens")));
  }

  private static void llama(ModelConfig config, Training training) {
    new Decoder(config, DType.F32, training, IN_8_BITS, 16);
  }
}
