package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.generate.Generator;
import dev.oribi.generate.Generator.Options;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.optim.OptimizerType;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.RowRounding;
import dev.oribi.testing.Stories260K;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.ModelStep;
import dev.oribi.train.TrainableTensor;
import dev.oribi.train.TrainableTensor.Part;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A model that somebody else trained: its published logits, text, loss and gradients. */
class Stories260KTest {
  private static final double LOGIT = 1e-4;
  private static final double RELATIVE = 1e-4;
  private static final int CONTEXT = 512;

  @TempDir Path folder;
  private Stories260K stories;
  private ModelConfig config;

  @BeforeEach
  void convert() throws IOException {
    stories = Stories260K.read();
    stories.write(folder);
    config = ModelConfig.read(folder);
  }

  private static int[] ids(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  private static int[] greedyIds() {
    return ids(Stories260K.json("facts.json").get("greedy_ids_from_bos"));
  }

  @Test
  void logits() throws IOException {
    int n = 48;
    int[] ids = Arrays.copyOf(greedyIds(), n);
    FloatBuffer expected =
        ByteBuffer.wrap(Files.readAllBytes(Stories260K.file("logits-48x512.f32"))).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    float[] found = logits(ids);
    assertThat(found).hasSize(expected.remaining());
    double worst = 0;
    for (int i = 0; i < found.length; i++) {
      double distance = Math.abs(found[i] - expected.get(i));
      assertThat(!(distance <= LOGIT)).as("logit %d: %g, expected %g", i, found[i], expected.get(i)).isFalse();
      worst = Math.max(worst, distance);
    }
    System.out.printf("stories260K: %d logits, worst off by %.1e%n", found.length, worst);
  }

  private float[] logits(int[] ids) {
    int n = ids.length;
    try (Machine machine = TestMachine.open()) {
      Decoder model = new Decoder(config, DType.F32, Training.NONE, CONTEXT);
      Emit.Sizes sizes = new Emit.Sizes(n, n, 1, n, DType.F32, false, 0);
      Inputs in = model.inputs(sizes);
      Buffer logits = new Buffer("logits", Lifetime.IO, DType.F32, Rows.TARGETS, n, config.vocabSize());
      Program program = new Program("logits");
      model.emitLogits(new Emit(program, sizes, machine.library()), in, List.of(), logits);
      try (Plan plan = new Plan(List.of(program), model.parameters().buffers())) {
        plan.take(machine.device(), "logits");
        new Weights(model, machine).load(folder, null);
        int[] count = IntStream.range(0, n).toArray();
        machine.device().write(in.ids().mem(), ids, n);
        machine.device().write(in.positions().mem(), count, n);
        machine.device().write(in.targetRows().mem(), count, n);
        machine.device().write(in.cuSeqlens().mem(), new int[] {0, n}, 2);
        new Executor().run(program, new Run(machine.library(), n, n, 1, n, 0));
        float[] values = new float[n * config.vocabSize()];
        machine.device().read(logits.mem(), values, 0, values.length);
        return values;
      }
    }
  }

  @Test
  void greedyText() throws IOException {
    try (Machine machine = TestMachine.open();
        Generator generator = generator(machine)) {
      int[] steps = generator.generate(new int[] {Stories260K.BOS}, Options.greedy(200, Set.of(Stories260K.BOS)), t -> true);
      assertThat(Stories260K.decode(steps)).isEqualTo(Files.readString(Stories260K.file("expected-greedy-200-steps.txt")));
      int[] full = generator.generate(new int[] {Stories260K.BOS}, Options.greedy(256, Set.of(Stories260K.BOS)), t -> true);
      assertThat(Stories260K.decode(full)).isEqualTo(Files.readString(Stories260K.file("expected-greedy-full.txt")));
      int[] expected = greedyIds();
      assertThat(full).startsWith(Arrays.copyOfRange(expected, 1, expected.length));
    }
  }

  private Generator generator(Machine machine) {
    Generator generator = new Generator(new Decoder(config, DType.F32, Training.NONE, CONTEXT), machine, CONTEXT);
    generator.take().load(folder, null);
    return generator;
  }

  /** 300 tokens are more than one chunk of the prompt; the text after them is the same however they came in. */
  @Test
  void promptInChunksAndTokenByToken() {
    int[] greedy = greedyIds();
    int[] prompt = IntStream.range(0, 300).map(i -> greedy[i % greedy.length]).toArray();
    Options twenty = Options.greedy(20, Set.of());
    try (Machine machine = TestMachine.open();
        Generator whole = generator(machine);
        Generator single = generator(machine)) {
      for (int n = 1; n < prompt.length; n++) {
        single.generate(Arrays.copyOf(prompt, n), Options.greedy(1, Set.of()), t -> true);
      }
      int[] expected = single.generate(prompt, twenty, t -> true);
      assertThat(expected).hasSize(20);
      assertThat(whole.generate(prompt, twenty, t -> true)).isEqualTo(expected);
    }
  }

  @Test
  void lossAndEveryGradient() {
    JsonNode golden = Stories260K.json("gradients.json");
    int[] ids = ids(golden.get("tokens"));
    Sequence text = new Sequence(ids, ids);
    try (Machine machine = TestMachine.open();
        ModelStep step = step(machine, Training.FULL, ids.length)) {
      double loss = step.microStep(TinyModels.batch(List.of(text)), 1.0 / (ids.length - 1), 0) / (ids.length - 1);
      assertThat(loss).isEqualTo(golden.get("loss_mean_nats").doubleValue(), within(RELATIVE, loss));
      JsonNode gradients = golden.get("grads");
      assertThat(step.trainable()).hasSize(gradients.size());
      double worst = 0;
      for (var e : gradients.properties()) {
        String name = Stories260K.huggingFaceName(e.getKey());
        worst = Math.max(worst, distance(name, stories.original(name, gradient(step, name)), e.getValue()));
      }
      double norm = step.update(1, 0);
      assertThat(norm).isEqualTo(golden.get("total_grad_l2").doubleValue(), within(RELATIVE, norm));
      System.out.printf("stories260K: loss %.6f, %d gradients, worst off by %.1e%n", loss, gradients.size(), worst);
    }
  }

  @Test
  void batchTimesAccumulation() {
    assertThat(batchTimesAccumulation(50, 53, 61, 58, 77, 49, 66, 55)).isLessThanOrEqualTo(RowRounding.limit(1e-6));
  }

  /** A product of fewer than a million multiplications takes other code of OpenBLAS, which adds in another order. */
  @Test
  void batchTimesAccumulationOfTinyRows() {
    assertThat(batchTimesAccumulation(5, 16, 9, 7, 1, 22, 19, 17)).isLessThanOrEqualTo(RowRounding.limit(5e-6));
  }

  /** Eight pieces of a text in micro-batches of 8, 4, 2 and 1: how far apart their gradients are. */
  private double batchTimesAccumulation(int... lengths) {
    int[] ids = greedyIds();
    List<Sequence> rows = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      int[] piece = Arrays.copyOfRange(ids, 25 * i, 25 * i + lengths[i]);
      rows.add(new Sequence(piece, piece));
    }
    double worst = 0;
    try (Machine machine = TestMachine.open();
        ModelStep step = step(machine, Training.FULL, 512)) {
      Map<String, float[]> expected = accumulated(step, rows, 8);
      for (int size : new int[] {4, 2, 1}) {
        Map<String, float[]> found = accumulated(step, rows, size);
        for (String name : expected.keySet()) {
          worst = Math.max(worst, Compare.relative(found.get(name), expected.get(name)));
        }
      }
    }
    System.out.printf("stories260K: 8x1, 4x2, 2x4, 1x8 differ by %.1e%n", worst);
    return worst;
  }

  private static Map<String, float[]> accumulated(ModelStep step, List<Sequence> rows, int size) {
    step.clearGradients();
    for (int at = 0; at < rows.size(); at += size) {
      step.microStep(TinyModels.batch(rows.subList(at, at + size)), 1.0 / TinyModels.targets(rows), at);
    }
    Map<String, float[]> all = new LinkedHashMap<>();
    step.trainable().forEach(t -> all.put(t.name(), gradient(step, t.name())));
    return all;
  }

  private static Offset<Double> within(double relative, double of) {
    return Offset.offset(relative * Math.abs(of));
  }

  /** Norm, sum and first eight values; the sum is compared on the scale of the norm, since it may cancel. */
  private static double distance(String name, float[] g, JsonNode golden) {
    double l2 = 0;
    double sum = 0;
    for (float x : g) {
      l2 += (double) x * x;
      sum += x;
    }
    double norm = golden.get("l2").doubleValue();
    double worst = Math.abs(Math.sqrt(l2) - norm) / norm;
    worst = Math.max(worst, Math.abs(sum - golden.get("sum").doubleValue()) / norm);
    double difference = 0;
    double first = 0;
    for (int i = 0; i < 8; i++) {
      double expected = golden.get("first8").get(i).doubleValue();
      difference += (g[i] - expected) * (g[i] - expected);
      first += expected * expected;
    }
    worst = Math.max(worst, Math.sqrt(difference / first));
    assertThat(!(worst <= RELATIVE)).as("%s is off by %g", name, worst).isFalse();
    return worst;
  }

  private static float[] gradient(ModelStep step, String name) {
    TrainableTensor t = step.trainable().stream().filter(x -> x.name().equals(name)).findFirst().orElseThrow();
    FloatBuffer into = FloatBuffer.allocate((int) t.elements());
    t.read(Part.GRADIENT, into);
    return into.array();
  }

  private ModelStep step(Machine machine, Training training, int tokens) {
    ModelStep step =
        new ModelStep(
            new Decoder(config, DType.F32, training, tokens), machine,
            new ModelStep.Options(tokens, 8, 0, 8, false, 0, false, 1L << 24, new Emit.AdamW(0.9, 0.999, 1e-8, 0), OptimizerType.ADAMW_TORCH, 1, 0));
    step.take().load(folder, null);
    return step;
  }

  @Test
  void anAdapterLearnsATextByHeart() {
    LoraConfig lora = LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);
    int[] ids = ids(Stories260K.json("gradients.json").get("tokens"));
    var batch = TinyModels.batch(List.of(new Sequence(ids, ids)));
    try (Machine machine = TestMachine.open();
        ModelStep step = step(machine, Training.adapter(lora), ids.length)) {
      new Weights(step.model(), machine).initAdapter(lora, 1);
      double scale = 1.0 / (ids.length - 1);
      double first = step.microStep(batch, scale, 0) * scale;
      step.update(1, 5e-3);
      double last = first;
      for (int i = 2; i <= 20; i++) {
        last = step.microStep(batch, scale, 0) * scale;
        step.update(i, 5e-3);
      }
      System.out.printf("stories260K: loss %.4f, after 20 steps of LoRA %.4f%n", first, last);
      assertThat(first).isEqualTo(1.249420, within(RELATIVE, first));
      assertThat(last).isLessThan(first / 2);
    }
  }
}
