package dev.oribi.gguf;

import dev.oribi.OribiException;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import dev.oribi.model.family.Architecture.GatedMlpSpec;
import dev.oribi.model.family.Architecture.LatentAttentionSpec;
import dev.oribi.model.family.Architecture.Layer;
import dev.oribi.model.family.Architecture.SelfAttentionSpec;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Where each weight of a model stands in a GGUF file.
 *
 * <p>llama.cpp names a tensor by what it does, the same in all families; Hugging Face's names differ from family to family and
 * stand in the {@link Architecture}. So the names of all families follow from their architectures by this one table. The
 * matrices of a layer's experts are one tensor of three dimensions; norms that multiply by one plus their weight are written
 * with the one added.
 */
public final class GgufNames {
  private static final String WEIGHT = ".weight";
  private static final String BIAS = ".bias";

  /**
   * The place of one weight.
   *
   * @param tensor name in the file
   * @param part which matrix of a stack it is; 0 where {@code parts} is 0
   * @param parts matrices of the stack; 0: the tensor is this weight alone
   * @param order of its rows; of a vector, its elements
   * @param plus what is added to each of its numbers in the file
   */
  public record Place(String tensor, int part, int parts, RowOrder order, float plus) {}

  private record Module(String name, int part, int parts, RowOrder order, boolean norm) {}

  private final Map<String, Module> modules = new HashMap<>();
  private final Map<String, LatentSplit> splits = new HashMap<>();
  /** Tensors that are no module's weight or bias. */
  private final Map<String, String> others = new HashMap<>();
  private final String architecture;
  private final float plus;
  private final RowOrder queries;
  private final RowOrder keys;

  private GgufNames(ModelConfig config, String architecture, boolean interleaved) {
    this.architecture = architecture;
    Architecture a = config.architecture();
    plus = a.norm() == NormWeight.ONE_PLUS ? 1 : 0;
    queries = interleaved ? new RowOrder(config.numAttentionHeads(), config.headDim()) : RowOrder.SAME;
    keys = interleaved ? new RowOrder(config.numKeyValueHeads(), config.headDim()) : RowOrder.SAME;
    plain(Architecture.EMBEDDING, "token_embd");
    norm(Architecture.LAST_NORM, "output_norm");
    plain(Architecture.HEAD, "output");
    for (int i = 0; i < a.layers().size(); i++) {
      addLayer(Architecture.LAYER + i + ".", "blk." + i + ".", a.layers().get(i));
    }
  }

  /** @param interleaved whether neighbouring channels of a head turn together in files of this architecture */
  public static GgufNames of(ModelConfig config, String architecture, boolean interleaved) {
    return new GgufNames(config, architecture, interleaved);
  }

  /** The place of a weight by Hugging Face's name; an {@link OribiException} if it has none. */
  public Place place(String name) {
    String other = others.get(name);
    if (other != null) {
      return new Place(other, 0, 0, RowOrder.SAME, 0);
    }
    String suffix = name.endsWith(BIAS) ? BIAS : WEIGHT;
    Module m = name.endsWith(suffix) ? modules.get(name.substring(0, name.length() - suffix.length())) : null;
    if (m == null) {
      throw new OribiException("the tensor " + name + " has no place in a GGUF file of architecture " + architecture);
    }
    return new Place(m.name + suffix, m.part, m.parts, m.order, m.norm && suffix.equals(WEIGHT) ? plus : 0);
  }

  /** How a weight is written that files hold as two tensors; empty for all others. */
  public Optional<LatentSplit> split(String name) {
    return Optional.ofNullable(splits.get(name));
  }

  // ----------------------------------------------------------------------------------------------------------- table

  private void addLayer(String layer, String block, Layer l) {
    norm(layer + l.inputNorm(), block + "attn_norm");
    norm(layer + l.midNorm(), block + "ffn_norm");
    if (l.attention() instanceof SelfAttentionSpec a) {
      addAttention(layer, block, a);
    } else if (l.attention() instanceof LatentAttentionSpec a) {
      addLatent(layer, block, a);
    }
    if (l.mlp() instanceof GatedMlpSpec m) {
      addMlp(layer, block, m, "");
    } else if (l.mlp() instanceof ExpertsSpec x) {
      addExperts(layer, block, x);
    }
  }

  private void addAttention(String layer, String block, SelfAttentionSpec a) {
    List<String> qkv = a.qkv();
    if (qkv.size() == 1) {
      plain(layer + qkv.get(0), block + "attn_qkv");
    } else {
      modules.put(layer + qkv.get(0), new Module(block + "attn_q", 0, 0, queries, false));
      modules.put(layer + qkv.get(1), new Module(block + "attn_k", 0, 0, keys, false));
      plain(layer + qkv.get(2), block + "attn_v");
    }
    plain(layer + a.o(), block + "attn_output");
    if (a.qNorm() != null) {
      norm(layer + a.qNorm(), block + "attn_q_norm");
      norm(layer + a.kNorm(), block + "attn_k_norm");
    }
    if (a.outputNorm() != null) {
      norm(layer + a.outputNorm(), block + "post_attention_norm");
    }
  }

  private void addLatent(String layer, String block, LatentAttentionSpec a) {
    List<String> down = a.down();
    if (a.qRank() > 0) {
      plain(layer + down.get(0), block + "attn_q_a");
      norm(layer + LatentAttentionSpec.Q_NORM, block + "attn_q_a_norm");
    }
    plain(layer + down.get(down.size() - 1), block + "attn_kv_a_mqa");
    norm(layer + LatentAttentionSpec.KV_NORM, block + "attn_kv_a_norm");
    plain(layer + a.q(), block + (a.qRank() > 0 ? "attn_q_b" : "attn_q"));
    plain(layer + LatentAttentionSpec.KV, block + "attn_kv_b"); // of older files, which have it whole
    splits.put(layer + LatentAttentionSpec.KV + WEIGHT, new LatentSplit(block + "attn_k_b" + WEIGHT, block + "attn_v_b" + WEIGHT,
        a.shape().heads(), a.shape().nope(), a.shape().v(), a.kvRank()));
    plain(layer + LatentAttentionSpec.O, block + "attn_output");
  }

  /** @param kind what llama.cpp puts behind the names */
  private void addMlp(String layer, String block, GatedMlpSpec m, String kind) {
    List<String> gateUp = m.gateUp();
    if (gateUp.size() == 2) {
      plain(layer + gateUp.get(0), block + "ffn_gate" + kind);
    }
    plain(layer + gateUp.get(gateUp.size() - 1), block + "ffn_up" + kind); // both in one where they are one module
    plain(layer + m.down(), block + "ffn_down" + kind);
    if (m.outputNorm() != null) {
      norm(layer + m.outputNorm(), block + "post_ffw_norm");
    }
  }

  private void addExperts(String layer, String block, ExpertsSpec x) {
    plain(layer + x.router(), block + "ffn_gate_inp");
    if (x.choiceBias() != null) {
      others.put(layer + x.choiceBias(), block + "exp_probs_b.bias");
    }
    int experts = x.shape().experts();
    List<String> names = List.of("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps");
    for (int e = 0; e < experts; e++) {
      for (int which = 0; which < names.size(); which++) {
        modules.put(layer + x.module(e, which), new Module(block + names.get(which), e, experts, RowOrder.SAME, false));
      }
    }
    if (x.shared() != null) {
      addMlp(layer, block, x.shared(), "_shexp");
    }
  }

  private void plain(String module, String name) {
    modules.put(module, new Module(name, 0, 0, RowOrder.SAME, false));
  }

  private void norm(String module, String name) {
    modules.put(module, new Module(name, 0, 0, RowOrder.SAME, true));
  }
}
