package dev.oribi.generate;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.generate.Generator.Options;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceDecoder;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** Tokens drawn with a cache, against the double-precision model of each family, which has none. */
class FamilyGeneratorTest {
  private static final int CONTEXT = 24;
  private static final int[] PROMPT = {3, 1, 7, 7, 2};

  @TestFactory
  Stream<DynamicTest> greedyIsThatOfTheReference() {
    return TinyModels.families().entrySet().stream().map(e -> DynamicTest.dynamicTest(e.getKey(), () -> check(e.getValue())));
  }

  /** With experts and latent attention: what the cache holds of earlier tokens is what reading the whole text again makes. */
  @TestFactory
  Stream<DynamicTest> aCacheChangesNoToken() {
    return TinyModels.routedFamilies().entrySet().stream().map(e -> DynamicTest.dynamicTest(e.getKey(), () -> checkCache(e.getValue())));
  }

  private static void checkCache(ModelConfig config) {
    try (Machine machine = TestMachine.open(1)) {
      Decoder model = new Decoder(config, DType.F32, Training.NONE, CONTEXT);
      try (Generator generator = new Generator(model, machine, CONTEXT)) {
        generator.take().initRandom(0.7f, 5);
        int[] found = generator.generate(PROMPT, Options.greedy(14, Set.of()), t -> true);
        assertThat(found).hasSize(14);
        int[] text = PROMPT;
        for (int token : found) {
          assertThat(generator.generate(text, Options.greedy(1, Set.of()), t -> true)).containsExactly(token);
          text = Arrays.copyOf(text, text.length + 1);
          text[text.length - 1] = token;
        }
      }
    }
  }

  private static void check(ModelConfig config) {
    try (Machine machine = TestMachine.open(1)) {
      Decoder model = new Decoder(config, DType.F32, Training.NONE, CONTEXT);
      try (Generator generator = new Generator(model, machine, CONTEXT)) {
        Weights loaded = generator.take();
        loaded.initRandom(0.7f, 5);
        Map<String, double[]> weights = new LinkedHashMap<>();
        for (Tensor t : model.parameters().tensors()) {
          FloatBuffer into = FloatBuffer.allocate((int) t.elements());
          loaded.read(t, 0, into);
          weights.put(t.name(), Compare.widen(into.array()));
        }
        ReferenceDecoder reference = new ReferenceDecoder(config, null, weights, Map.of()).asBeginningOf(CONTEXT);
        int[] found = generator.generate(PROMPT, Options.greedy(14, Set.of()), t -> true);
        int[] text = PROMPT;
        for (int token : found) {
          double[] last = reference.logits(text, 0)[text.length - 1];
          double most = Arrays.stream(last).max().orElseThrow();
          assertThat(last[token]).as("logit of token %d after %s", token, Arrays.toString(text)).isGreaterThan(most - 1e-4);
          text = Arrays.copyOf(text, text.length + 1);
          text[text.length - 1] = token;
        }
        assertThat(found).hasSize(14);
      }
    }
  }
}
