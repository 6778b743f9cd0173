package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.layer.ExpertLinear;
import dev.oribi.layer.Experts;
import dev.oribi.layer.FeedForward;
import dev.oribi.layer.Parameters;
import dev.oribi.layer.Parameters.Param;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.FusedExperts;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Declares the tensors of a layer's routed experts, by the names of the checkpoint and of PEFT: those of each expert by itself,
 * in the order in which the grouped products read them.
 */
final class ExpertModules {
  private static final String WEIGHT = ".weight";

  private final Parameters parameters;
  private final Training training;
  private final FrozenStorage storage;
  private final String layer;
  private final ExpertsSpec spec;
  private final long hidden;

  ExpertModules(Parameters parameters, Training training, FrozenStorage storage, String layer, ExpertsSpec spec, long hidden) {
    this.parameters = parameters;
    this.training = training;
    this.storage = storage;
    this.layer = layer;
    this.spec = spec;
    this.hidden = hidden;
  }

  /** @param shared the MLP beside them; null: none */
  Experts declare(FeedForward shared) {
    if (storage.fp8()) {
      throw new OribiException("--fp8: weights of routed experts are not multiplied in FP8: leave the option out");
    }
    Param gate = parameters.add(layer + "." + spec.router() + WEIGHT, experts(), hidden, false, training.full(), true);
    Param bias = spec.choiceBias() == null ? null : parameters.addF32(layer + "." + spec.choiceBias(), experts());
    Experts.Router router = new Experts.Router(gate, bias == null ? null : bias.value().buffer(), spec.shape());
    ExpertLinear gateUp = linear("gate_up_proj", List.of(0, 1), spec.size(), hidden);
    ExpertLinear down = linear("down_proj", List.of(2), hidden, spec.size());
    return new Experts(layer, router, gateUp, down, spec.activation(), shared);
  }

  /** The full names of the parameters that {@code target_parameters} may name. */
  List<String> parameters() {
    return new FusedExperts(training.lora(), layer).parameters();
  }

  /** The last names of the modules that may have adapters. */
  List<String> names() {
    return spec.modules();
  }

  private int experts() {
    return spec.shape().experts();
  }

  private String module(int expert, int which) {
    return layer + "." + spec.module(expert, which);
  }

  /** Projections of one input, stacked within each expert; each has {@code out} rows. */
  private ExpertLinear linear(String label, List<Integer> which, long out, long in) {
    List<String> modules = new ArrayList<>();
    for (int e = 0; e < experts(); e++) {
      for (int w : which) {
        modules.add(module(e, w));
      }
    }
    return new ExpertLinear(layer + ".experts." + label, experts(), weight(modules, out, in), lora(label, which, out, in));
  }

  private Param weight(List<String> modules, long out, long in) {
    List<String> names = modules.stream().map(m -> m + WEIGHT).toList();
    long[] rows = new long[modules.size()];
    Arrays.fill(rows, out);
    List<GgmlType> blocks = names.stream().map(n -> storage.blocks().getOrDefault(n, GgmlType.F32)).toList();
    if (!training.full() && blocks.stream().anyMatch(GgmlType::packed)) {
      return parameters.stackInBlocks(names, rows, in, blocks);
    }
    boolean[] in4Bits = new boolean[rows.length];
    boolean any = false;
    for (int i = 0; i < rows.length; i++) {
      in4Bits[i] = storage.layers() != null && storage.layers().quantizes(modules.get(i));
      any |= in4Bits[i];
    }
    return any
        ? parameters.stackIn4Bits(names, rows, in, in4Bits)
        : parameters.stack(names, rows, in, false, training.full(), true);
  }

  private ExpertLinear.Lora lora(String parameter, List<Integer> which, long out, long in) {
    LoraConfig lora = training.lora();
    List<Integer> adapted = lora == null ? List.of() : which.stream().filter(w -> targets(lora, w)).toList();
    if (lora != null && new FusedExperts(lora, layer).adapts(parameter)) {
      if (!adapted.isEmpty()) {
        throw new OribiException("target_modules and target_parameters both name " + module(0, adapted.get(0)) + ": name it in one of them");
      }
      return fused(new FusedExperts(lora, layer), parameter, which.size() * out, in);
    }
    if (adapted.isEmpty()) {
      return null;
    }
    if (lora.loraDropout() > 0) {
      throw new OribiException(
          "lora_dropout is not supported for adapters of experts: leave it 0, or name the modules of attention alone in"
              + " --target-modules");
    }
    List<String> namesA = new ArrayList<>();
    List<Long> ranks = new ArrayList<>();
    for (int e = 0; e < experts(); e++) {
      for (int w : adapted) {
        namesA.add(LoraConfig.tensorName(module(e, w), "lora_A"));
        ranks.add((long) lora.rank(module(0, w)));
      }
    }
    Param a = parameters.stack(namesA, ranks.stream().mapToLong(Long::longValue).toArray(), in, false, true, true);
    List<ExpertLinear.Adapter> adapters = new ArrayList<>();
    long firstRank = 0;
    for (int w : adapted) {
      int rank = lora.rank(module(0, w));
      adapters.add(new ExpertLinear.Adapter(which.indexOf(w) * out, out, firstRank, rank, b(w, out, rank), (float) lora.scale(module(0, w))));
      firstRank += rank;
    }
    return new ExpertLinear.Lora(a, adapters);
  }

  /** One adapter for all that is stacked within an expert, under PEFT's names of fused experts. */
  private ExpertLinear.Lora fused(FusedExperts names, String parameter, long out, long in) {
    int rank = names.rank(parameter);
    Param a = parameters.add(names.tensorName(parameter, "lora_A"), (long) experts() * rank, in, false, true, true);
    Param b = parameters.addExpertsLast(names.tensorName(parameter, "lora_B"), experts(), out, rank);
    return new ExpertLinear.Lora(a, List.of(new ExpertLinear.Adapter(0, out, 0, rank, b, (float) names.scale(parameter))));
  }

  private Param b(int which, long out, int rank) {
    List<String> names = new ArrayList<>();
    for (int e = 0; e < experts(); e++) {
      names.add(LoraConfig.tensorName(module(e, which), "lora_B"));
    }
    long[] rows = new long[experts()];
    Arrays.fill(rows, out);
    return parameters.stack(names, rows, rank, false, true, true);
  }

  /** Whether a projection of the experts is adapted; one grouped product serves all of them, so they must be alike. */
  private boolean targets(LoraConfig lora, int which) {
    String first = module(0, which);
    for (int e = 1; e < experts(); e++) {
      String m = module(e, which);
      boolean alike = lora.targets(m) == lora.targets(first)
          && (!lora.targets(m) || lora.rank(m) == lora.rank(first) && lora.scale(m) == lora.scale(first));
      if (!alike) {
        throw new OribiException(
            "adapters of the experts of a layer must be alike, and those of " + first + " and " + m + " are not: give all of them"
                + " the same rank and alpha, or none an adapter");
      }
    }
    return lora.targets(first);
  }
}
