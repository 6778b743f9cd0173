package dev.oribi.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.generate.Generator.Options;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.Compare;
import dev.oribi.testing.ReferenceDecoder;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class GeneratorTest {
  private static final int CONTEXT = 24;
  private static final int[] PROMPT = {3, 1, 7, 7, 2};
  private static final Set<Integer> NEVER = Set.of();

  private final ModelConfig config = TinyModels.tiny("silu", false);
  private Machine machine;
  private Decoder model;
  private Generator generator;
  private final Map<String, double[]> weights = new LinkedHashMap<>();

  @BeforeEach
  void make() {
    machine = TestMachine.open(1);
    generator = generator();
  }

  private Generator generator() {
    return generator(CONTEXT);
  }

  private Generator generator(int context) {
    model = new Decoder(config, DType.F32, Training.NONE, context);
    Generator g = new Generator(model, machine, context);
    var loaded = g.take();
    loaded.initRandom(0.7f, 5);
    for (var t : model.parameters().tensors()) {
      FloatBuffer into = FloatBuffer.allocate((int) t.elements());
      loaded.read(t, 0, into);
      weights.put(t.name(), Compare.widen(into.array()));
    }
    return g;
  }

  @AfterEach
  void close() {
    generator.close();
    machine.close();
  }

  private static Options sampling(int n, int topK, long seed) {
    return new Options(n, 1.2f, topK, 1, 0, 1, seed, NEVER);
  }

  private int[] greedy(int[] prompt, int n) {
    return generator.generate(prompt, Options.greedy(n, NEVER), t -> true);
  }

  /** Every token is the most likely one of the double-precision model, which has no cache. */
  @Test
  void greedyIsThatOfTheReference() {
    ReferenceDecoder reference = new ReferenceDecoder(config, null, weights, Map.of());
    int[] text = PROMPT;
    for (int i = 0; i < 12; i++) {
      double[] last = reference.logits(text, 0)[text.length - 1];
      int best = 0;
      for (int v = 1; v < last.length; v++) {
        best = last[v] > last[best] ? v : best;
      }
      text = Arrays.copyOf(text, text.length + 1);
      text[text.length - 1] = best;
    }
    assertThat(greedy(PROMPT, 12)).isEqualTo(Arrays.copyOfRange(text, PROMPT.length, text.length));
  }

  @Test
  void theCacheChangesNoToken() {
    int[] other = {3, 1, 9};
    int[] first = greedy(PROMPT, 10);
    int[] second = greedy(other, 10);
    assertThat(greedy(PROMPT, 10)).as("after another text").isEqualTo(first);
    assertThat(greedy(PROMPT, 10)).as("the same again").isEqualTo(first);
    int[] longer = Arrays.copyOf(PROMPT, PROMPT.length + 4);
    System.arraycopy(first, 0, longer, PROMPT.length, 4);
    assertThat(greedy(longer, 6)).as("gone on from its own text").isEqualTo(Arrays.copyOfRange(first, 4, 10));
    try (Generator fresh = generator()) {
      assertThat(fresh.generate(other, Options.greedy(10, NEVER), t -> true)).isEqualTo(second);
    }
  }

  @Test
  void endsWhereTheContextEnds() {
    assertThat(greedy(PROMPT, 1000)).hasSize(CONTEXT - PROMPT.length);
    assertThat(greedy(new int[CONTEXT - 1], 1000)).hasSize(1);
    assertThat(greedy(PROMPT, 0)).isEmpty();
  }

  @Test
  void endsBeforeAStopToken() {
    int[] all = greedy(PROMPT, 15);
    int stop = all[4];
    int first = 0;
    while (all[first] != stop) {
      first++;
    }
    List<Integer> seen = new ArrayList<>();
    int[] cut = generator.generate(PROMPT, Options.greedy(15, Set.of(stop)), t -> seen.add(t));
    assertThat(cut).isEqualTo(Arrays.copyOf(all, first));
    assertThat(seen).hasSize(first);
    assertThat(generator.generate(PROMPT, Options.greedy(15, NEVER), t -> false)).isEmpty();
  }

  /** A prompt goes through the model in parts of 256 tokens. */
  @Test
  void aLongPromptIsReadAsFarAsItIsWanted() {
    int[] prompt = new int[600];
    Arrays.setAll(prompt, i -> i * i % 11);
    try (Generator first = generator(700); Generator second = generator(700)) {
      int[] parts = {0};
      assertThat(first.generate(prompt, Options.greedy(5, NEVER), () -> ++parts[0] < 2, t -> true)).isEmpty();
      assertThat(parts[0]).isEqualTo(2);
      int[] whole = second.generate(prompt, Options.greedy(5, NEVER), t -> true);
      assertThat(whole).hasSize(5);
      assertThat(first.generate(prompt, Options.greedy(5, NEVER), () -> --parts[0] > 0, t -> true)).as("goes on from the part that was read").isEqualTo(whole);
    }
  }

  @Test
  void theSeedDecides() {
    Set<List<Integer>> texts = new HashSet<>();
    for (long seed = 0; seed < 20; seed++) {
      int[] text = generator.generate(PROMPT, sampling(10, 0, seed), t -> true);
      assertThat(generator.generate(PROMPT, sampling(10, 0, seed), t -> true)).isEqualTo(text);
      texts.add(Arrays.stream(text).boxed().toList());
    }
    assertThat(texts).hasSizeGreaterThan(10);
  }

  @Test
  void amongOneTokenThereIsNoChoice() {
    assertThat(generator.generate(PROMPT, sampling(10, 1, 3), t -> true)).isEqualTo(greedy(PROMPT, 10));
  }

  @Test
  void refusesWhatCannotBe() {
    Options one = Options.greedy(1, NEVER);
    assertThatThrownBy(() -> generator.generate(new int[0], one, t -> true))
        .isInstanceOf(OribiException.class).hasMessageContaining("the prompt has no tokens");
    assertThatThrownBy(() -> generator.generate(new int[CONTEXT], one, t -> true))
        .isInstanceOf(OribiException.class).hasMessageContaining("24 tokens and the context 24");
    for (int again = 0; again < 2; again++) {
      assertThatThrownBy(() -> generator.generate(new int[] {13, 5}, one, t -> true))
          .isInstanceOf(OribiException.class).hasMessageContaining("embedding");
    }
    assertThat(greedy(PROMPT, 3)).as("still of use after an error").hasSize(3);
    assertThatThrownBy(() -> sampling(1, -1, 0)).isInstanceOf(OribiException.class).hasMessageContaining("top_k");
    assertThatThrownBy(() -> new Options(1, Float.NaN, 0, 1, 0, 1, 0, NEVER))
        .isInstanceOf(OribiException.class).hasMessageContaining("temperature");
    assertThatThrownBy(() -> new Options(1, 1, 0, 0, 0, 1, 0, NEVER))
        .isInstanceOf(OribiException.class).hasMessageContaining("top_p");
  }
}
