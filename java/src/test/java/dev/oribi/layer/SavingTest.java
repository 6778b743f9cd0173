package dev.oribi.layer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.program.Op;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.StepFixture.Plan;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.MemoryPlan.Choice;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;

/** Whatever a layer keeps, makes again or sends to the host, the loss and every gradient are the same bits. */
final class SavingTest {
  private static final ModelConfig MODEL = TinyModels.tiny("silu", false);
  private static final long SEED = 11;
  private static final long LOGITS = 1L << 16;

  private static List<Sequence> batch() {
    List<Sequence> all = new ArrayList<>(TinyModels.sequences(SEED, 13, 5, 1, 7, 4, 3));
    all.set(2, TinyModels.masked(all.get(2), 3));
    return all;
  }

  private static LoraConfig lora(double dropout) {
    return LoraConfig.of(3, 6, dropout, LoraConfig.ALL_LINEAR, false, List.of(), null);
  }

  private static Choice of(List<Saving> savings) {
    return new Choice(savings, 0, false, true, LOGITS);
  }

  private static Choice all(Saving s) {
    return of(Collections.nCopies(MODEL.numHiddenLayers(), s));
  }

  private static Saving everythingOnTheHost() {
    Saving s = Saving.KEEP.with(Tensor.F, How.REBUILD);
    for (Tensor t : Tensor.values()) {
      s = t == Tensor.F ? s : s.with(t, How.OFFLOAD);
    }
    return s;
  }

  private static Choice random(Random random) {
    List<Saving> savings = new ArrayList<>();
    for (int i = 0; i < MODEL.numHiddenLayers(); i++) {
      Saving s = Saving.KEEP;
      for (Tensor t : Tensor.values()) {
        How how = How.values()[random.nextInt(3)];
        boolean cannot = t == Tensor.R0 && how == How.REBUILD || t == Tensor.F && how == How.OFFLOAD;
        s = cannot ? s : s.with(t, how);
      }
      savings.add(s);
    }
    return new Choice(savings, 0, random.nextBoolean(), random.nextBoolean(), LOGITS);
  }

  /** Loss and gradients of a step under a choice. */
  private record Result(double loss, Map<String, float[]> gradients, long stepBytes, long hostBytes) {
    static Result of(Training training, Choice choice, List<Sequence> batch) {
      return of(MODEL, training, choice, batch);
    }

    static Result of(ModelConfig model, Training training, Choice choice, List<Sequence> batch) {
      try (StepFixture f = new StepFixture(model, training, Plan.DEFAULT.choice(choice), SEED)) {
        double loss = f.microStep(batch);
        return new Result(loss, f.gradients(), f.step().plan().stepBytes(), f.step().plan().hostBytes());
      }
    }

    void assertSameBits(Result other, String what) {
      assertThat(other.loss).as(what).isEqualTo(loss);
      other.gradients.forEach((name, g) -> assertThat(g).as(what + " " + name).isEqualTo(gradients.get(name)));
    }
  }

  private static List<Training> trainings() {
    return List.of(Training.FULL, Training.adapter(lora(0)), Training.adapter(lora(0.3)));
  }

  @Test
  void everyChoiceGivesTheSameBits() {
    List<Sequence> batch = batch();
    for (Training training : trainings()) {
      check(MODEL, training, batch, 12);
    }
  }

  /** With norms of heads and outputs there are more tensors. */
  @Test
  void everyChoiceGivesTheSameBitsInEveryFamily() {
    TinyModels.families().forEach((name, model) -> {
      for (Training training : trainings()) {
        check(model, training, batch(), 6);
      }
    });
  }

  /** Experts' gu and f have a row for each choice; latent attention makes again what is short too. */
  @Test
  void everyChoiceGivesTheSameBitsWithExperts() {
    TinyModels.routedFamilies().forEach((name, model) -> {
      for (Training training : List.of(Training.FULL, Training.adapter(lora(0)))) {
        check(model, training, batch(), 6);
      }
    });
  }

  private static void check(ModelConfig model, Training training, List<Sequence> batch, int choices) {
    Result kept = Result.of(model, training, all(Saving.KEEP), batch);
    Result rebuilt = Result.of(model, training, all(Saving.REBUILD), batch);
    Result onHost = Result.of(model, training, all(everythingOnTheHost()), batch);
    kept.assertSameBits(rebuilt, "rebuilt");
    kept.assertSameBits(onHost, "on the host");
    assertThat(rebuilt.stepBytes).isLessThan(kept.stepBytes);
    assertThat(onHost.hostBytes).isGreaterThan(0);
    Random random = new Random(3);
    for (int i = 0; i < choices; i++) {
      Choice choice = random(random);
      kept.assertSameBits(Result.of(model, training, choice, batch), choice.toString());
    }
  }

  /** Tiles change the order in which the adapters' gradients are summed over tokens, and nothing else. */
  @Test
  void tilesChangeRoundingAlone() {
    List<Sequence> batch = batch();
    tiles(MODEL, batch, Saving.REBUILD);
    tiles(TinyModels.families().get("gemma2"), batch, Saving.REBUILD);
    tiles(TinyModels.families().get("gemma2"), batch, Saving.REBUILD.with(Tensor.D, How.KEEP));
  }

  private static void tiles(ModelConfig model, List<Sequence> batch, Saving saving) {
    Training training = Training.adapter(lora(0));
    Result kept = Result.of(model, training, all(Saving.KEEP), batch);
    for (int rows : new int[] {7, 32, 100}) {
      Result tiled = Result.of(model, training, all(saving.withTileRows(rows)), batch);
      assertThat(tiled.loss).isCloseTo(kept.loss, Offset.offset(1e-6 * kept.loss)); // products of fewer rows may round otherwise
      tiled.gradients.forEach((name, g) -> {
        float[] expected = kept.gradients.get(name);
        double scale = 0;
        for (float e : expected) {
          scale = Math.max(scale, Math.abs(e));
        }
        for (int i = 0; i < g.length; i++) {
          assertThat((double) g[i]).as(name + "[" + i + "]").isCloseTo(expected[i], Offset.offset(4e-6 * scale)); // 2.3e-6 on a card
        }
      });
    }
  }

  /** An MLP in tiles is as small as its tiles: the program holds no [tokens, 2F] at all. */
  @Test
  void tilesBoundTheMlp() {
    try (StepFixture f =
        new StepFixture(
            MODEL, Training.adapter(lora(0)), Plan.DEFAULT.choice(all(Saving.REBUILD.withTileRows(32))), SEED)) {
      for (Op op : f.step().plan().programs().get(0).ops()) {
        assertThat(op.writes()).noneMatch(b -> b.rows() > 32 && b.cols() == 2L * MODEL.intermediateSize());
      }
    }
  }

  /** The weights in 4 bits dequantized for each product, ahead of it, or once and for all: the same 16 bits, or fp32 on a CPU. */
  @Test
  void copiesAndPrefetchGiveTheSameBits() {
    ModelConfig wide = TinyModels.config(64, 128, 3, 2, 1, 32, 13, "silu", false);
    Training training = Training.adapter(LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null));
    List<Saving> savings = Collections.nCopies(3, Saving.REBUILD);
    double loss = 0;
    Map<String, float[]> gradients = Map.of();
    for (Choice choice : List.of(
        new Choice(savings, 0, false, false, LOGITS), new Choice(savings, 0, false, true, LOGITS),
        new Choice(savings, 2, false, true, LOGITS), new Choice(savings, 3, true, false, LOGITS))) {
      try (StepFixture f = new StepFixture(wide, training, QuantizationConfig.ON_LOAD, Plan.DEFAULT.choice(choice), SEED)) {
        double found = f.microStep(batch());
        long dequantizes = f.step().plan().programs().get(0).ops().stream().filter(o -> o.kind() == Op.Kind.DEQUANTIZE).count();
        assertThat(dequantizes == 0).isEqualTo(choice.copies() == 3);
        if (gradients.isEmpty()) {
          loss = found;
          gradients = f.gradients();
        }
        assertThat(found).isEqualTo(loss);
        Map<String, float[]> expected = gradients;
        f.gradients().forEach((name, g) -> assertThat(g).as(name).isEqualTo(expected.get(name)));
      }
    }
  }

  @Test
  void whatCannotBeIsRefused() {
    assertThatThrownBy(() -> Saving.KEEP.with(Tensor.R0, How.REBUILD)).isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> Saving.KEEP.with(Tensor.F, How.OFFLOAD)).isInstanceOf(IllegalArgumentException.class);
  }
}
