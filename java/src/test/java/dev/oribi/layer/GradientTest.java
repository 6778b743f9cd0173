package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Op;
import dev.oribi.program.Program;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceDecoder;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * Loss and gradient of every trainable tensor against the double-precision reference and its finite differences. The batch
 * has sequences of several lengths, one of a single token, masked labels, and one sequence without any target.
 */
class GradientTest {
  private static final long SEED = 4;

  /** Five to ten times what is seen: fp32 rounding over a few hundred sums. */
  private static final double LOSS = 1e-6;

  private static final double GRADIENT = 1e-5;
  private static final int DROPOUT_STREAM = 3;

  private record Case(String name, ModelConfig config, Training training, Plan plan) {}

  private static final ModelConfig UNTIED = TinyModels.tiny("silu", false);
  private static final ModelConfig TIED = TinyModels.tiny("silu", true);

  private static List<Sequence> batch() {
    List<Sequence> all = new ArrayList<>(TinyModels.sequences(SEED, 13, 5, 1, 7, 4, 3));
    all.set(2, TinyModels.masked(all.get(2), 3));
    all.set(3, TinyModels.masked(all.get(3), 4));
    return all;
  }

  private static LoraConfig lora(Object targets, List<String> modulesToSave) {
    return LoraConfig.of(3, 6, 0, targets, false, modulesToSave, null);
  }

  private static Case adapter(String name, ModelConfig config, LoraConfig lora) {
    return new Case(name, config, Training.adapter(lora), Plan.DEFAULT);
  }

  private static LoraConfig patterns() {
    return new LoraConfig(
        2, 5, 0, LoraConfig.ALL_LINEAR, null, false, List.of(), LoraConfig.Init.KAIMING,
        Map.of("layers.0.self_attn.k_proj", 4, "down_proj", 1), Map.of("up_proj", 9.0), null);
  }

  private static LoraConfig dropout(List<String> modulesToSave) {
    return LoraConfig.of(3, 6, 0.4, LoraConfig.ALL_LINEAR, false, modulesToSave, null);
  }

  @TestFactory
  Stream<DynamicTest> lossAndGradients() {
    Training full = Training.FULL;
    List<Case> cases = new ArrayList<>(List.of(
        adapter("all-linear", UNTIED, lora(LoraConfig.ALL_LINEAR, List.of())),
        adapter("q_proj and v_proj", UNTIED, lora(List.of("q_proj", "v_proj"), List.of())),
        adapter("a regular expression", UNTIED, lora(".*\\.1\\.(self_attn\\.o_proj|mlp\\..*)", List.of())),
        adapter("rank_pattern and alpha_pattern", UNTIED, patterns()),
        adapter("rslora", UNTIED, LoraConfig.of(3, 6, 0, LoraConfig.ALL_LINEAR, true, List.of(), null)),
        adapter("lm_head saved", UNTIED, lora(List.of("q_proj"), List.of("lm_head"))),
        adapter("embed_tokens saved", UNTIED, lora(List.of("down_proj"), List.of("embed_tokens"))),
        adapter("both saved", UNTIED, lora(LoraConfig.ALL_LINEAR, List.of("embed_tokens", "lm_head"))),
        adapter("lm_head saved, tied", TIED, lora(List.of("k_proj"), List.of("lm_head"))),
        adapter("embed_tokens saved, tied", TIED, lora(List.of("k_proj"), List.of("embed_tokens"))),
        adapter("both saved, tied", TIED, lora(List.of("gate_proj"), List.of("embed_tokens", "lm_head"))),
        adapter("dropout", UNTIED, dropout(List.of())),
        adapter("dropout, both saved", TIED, dropout(List.of("embed_tokens", "lm_head"))),
        new Case("full, untied", UNTIED, full, Plan.DEFAULT),
        new Case("full, tied", TIED, full, Plan.DEFAULT),
        new Case("full, gelu by tanh", TinyModels.tiny("gelu_pytorch_tanh", false), full, Plan.DEFAULT),
        new Case("full, gelu by erf", TinyModels.tiny("gelu", true), full, Plan.DEFAULT),
        new Case("adapter, gelu by erf", TinyModels.tiny("gelu", false),
            Training.adapter(lora(LoraConfig.ALL_LINEAR, List.of())), Plan.DEFAULT),
        new Case("full, checkpointing", UNTIED, full, Plan.DEFAULT.checkpointing(true)),
        new Case("dropout, checkpointing", UNTIED, Training.adapter(dropout(List.of())), Plan.DEFAULT.checkpointing(true)),
        new Case("full, one row of logits at a time", UNTIED, full, Plan.DEFAULT.logitsBudget(1))));
    TinyModels.families().forEach((name, config) -> {
      cases.add(new Case(name + ", full", config, full, Plan.DEFAULT));
      cases.add(new Case(name + ", full, checkpointing", config, full, Plan.DEFAULT.checkpointing(true)));
      cases.add(adapter(name + ", adapter", config, lora(LoraConfig.ALL_LINEAR, List.of("embed_tokens", "lm_head"))));
      cases.add(new Case(name + ", dropout", config, Training.adapter(dropout(List.of())), Plan.DEFAULT));
    });
    return cases.stream().map(c -> DynamicTest.dynamicTest(c.name, () -> check(c)));
  }

  private static void check(Case c) {
    List<Sequence> batch = batch();
    try (StepFixture f = new StepFixture(c.config, c.training, c.plan, SEED)) {
      LoraConfig lora = c.training.lora();
      ReferenceDecoder reference = new ReferenceDecoder(c.config, lora, f.values(), masks(f, c, TinyModels.batch(batch).tokens()));
      double loss = f.microStep(batch);
      double expected = reference.lossSum(batch);
      assertThat(Math.abs(loss - expected) / expected).isLessThanOrEqualTo(LOSS);
      Map<String, float[]> gradients = f.gradients();
      Map<String, double[]> exact = reference.gradient(batch, gradients.keySet(), 1.0 / TinyModels.targets(batch));
      double worst = Compare.all(gradients, exact, GRADIENT);
      System.out.printf("%-36s %3d tensors, loss off by %.1e, gradient by %.1e%n", c.name, exact.size(),
          Math.abs(loss - expected) / expected, worst);
      assertThat(exact.values()).allSatisfy(g -> assertThat(Compare.relative(new float[g.length], g)).isPositive());
    }
  }

  /** The masks that the kernel draws: dropout of ones, each adapted module with the stream that the model gives it. */
  private static Map<String, double[]> masks(StepFixture f, Case c, int tokens) {
    Map<String, double[]> masks = new LinkedHashMap<>();
    LoraConfig lora = c.training.lora();
    if (lora == null || lora.loraDropout() == 0) {
      return masks;
    }
    Machine m = f.machine();
    int stream = 0;
    for (String module : ReferenceDecoder.adapted(c.config, lora)) {
      int in = f.values().get(LoraConfig.tensorName(module, "lora_A")).length / lora.rank(module);
      float[] ones = new float[tokens * in];
      try (Arena arena = m.device().allocate("a mask", 4L * ones.length)) {
        Mem mem = arena.all();
        m.kernels().fill(mem, ones.length, 1, DType.F32);
        m.kernels().dropout(mem, mem, ones.length, (float) lora.loraDropout(), c.plan.dropoutSeed(),
            ((long) DROPOUT_STREAM << 16) | stream++, false, DType.F32);
        m.device().read(mem, ones, 0, ones.length);
      }
      masks.put(module, Compare.widen(ones));
    }
    return masks;
  }

  @Test
  void erfOfTheReference() {
    assertThat(ReferenceDecoder.erf(0.5)).isEqualTo(0.5204998778130465, Offset.offset(1e-15));
    assertThat(ReferenceDecoder.erf(-2)).isEqualTo(-0.9953222650189527, Offset.offset(1e-13));
  }

  @Test
  void aBatchWithoutAnyTargetHasNoLossAndNoGradient() {
    List<Sequence> batch = TinyModels.sequences(SEED, 13, 4, 1).stream().map(s -> TinyModels.masked(s, 4)).toList();
    try (StepFixture f = new StepFixture(UNTIED, Training.FULL, Plan.DEFAULT, SEED)) {
      assertThat(f.microStep(batch)).isZero();
      f.gradients().forEach((name, g) -> assertThat(g).as(name).containsOnly(0));
    }
  }

  @Test
  void checkpointingChangesNoBit() {
    for (Training training : List.of(Training.FULL, Training.adapter(dropout(List.of("lm_head"))))) {
      try (StepFixture kept = new StepFixture(UNTIED, training, Plan.DEFAULT, SEED);
          StepFixture again = new StepFixture(UNTIED, training, Plan.DEFAULT.checkpointing(true), SEED)) {
        assertThat(again.microStep(batch())).isEqualTo(kept.microStep(batch()));
        Map<String, float[]> g = kept.gradients();
        again.gradients().forEach((name, a) -> assertThat(a).as(name).isEqualTo(g.get(name)));
        assertThat(again.step().plan().stepBytes()).isLessThan(kept.step().plan().stepBytes());
      }
    }
  }

  @Test
  void anAdapterNeverTouchesAFrozenWeight() {
    try (StepFixture f = new StepFixture(UNTIED, adapterOnly(LoraConfig.ALL_LINEAR), Plan.DEFAULT, SEED)) {
      for (Program p : f.step().plan().programs()) {
        for (Op op : p.ops()) {
          assertThat(op.writes()).as(op.name()).noneMatch(b -> b.lifetime() == Lifetime.WEIGHT);
          assertThat(op.kind()).isNotIn(Op.Kind.MATMUL_DW, Op.Kind.EMBEDDING_BACKWARD);
        }
      }
      long learns = f.model().parameters().trainable().stream().mapToLong(Parameters.Tensor::elements).sum();
      long gradients =
          f.step().plan().permanent().stream().filter(b -> b.lifetime() == Lifetime.GRADIENT).mapToLong(Buffer::rows).sum();
      assertThat(gradients).isBetween(learns, learns + 32L * f.model().parameters().trainable().size());
    }
  }

  private static Training adapterOnly(Object targets) {
    return Training.adapter(lora(targets, List.of()));
  }

  @Test
  void theBackwardPassStopsAtTheLowestLayerThatLearns() {
    try (StepFixture f = new StepFixture(UNTIED, adapterOnly(".*layers\\.1\\..*(q|down)_proj"), Plan.DEFAULT, SEED)) {
      Set<Op.Kind> backward = Set.of(
          Op.Kind.ATTENTION_BACKWARD, Op.Kind.GLU_BACKWARD, Op.Kind.RMS_NORM_BACKWARD, Op.Kind.MATMUL_DX, Op.Kind.LORA_DX,
          Op.Kind.LORA_DW, Op.Kind.ROPE_BACKWARD);
      List<Op> ops = f.step().plan().programs().get(0).ops();
      assertThat(ops).noneMatch(op -> backward.contains(op.kind()) && op.name().contains("layers.0"));
      assertThat(ops).noneMatch(op -> backward.contains(op.kind()) && op.name().endsWith("layers.1.input_layernorm"));
      assertThat(ops).noneMatch(op -> op.kind() == Op.Kind.MATMUL_DX && op.name().endsWith("layers.1.self_attn.qkv_proj"));
      assertThat(ops).anyMatch(op -> op.kind() == Op.Kind.LORA_DW && op.name().contains("layers.1.self_attn.qkv_proj"));
    }
  }
}
