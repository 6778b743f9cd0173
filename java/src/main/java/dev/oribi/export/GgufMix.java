package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Architecture.ExpertsSpec;
import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * The kinds of GGUF files and which type each tensor gets in them, as llama.cpp's own quantizer decides without an importance
 * matrix: norms and routers stay in fp32, the head in 6 bits, and in the mixes named M values and down projections of some layers
 * too. A stack of experts is one tensor to it.
 */
public enum GgufMix {
  F32(GgmlType.F32, 0),
  F16(GgmlType.F16, 1),
  BF16(GgmlType.BF16, 32),
  Q8_0(GgmlType.Q8_0, 7),
  Q4_0(GgmlType.Q4_0, 2),
  Q4_K_M(GgmlType.Q4_K, 15),
  Q5_K_M(GgmlType.Q5_K, 17),
  Q6_K(GgmlType.Q6_K, 18);

  private static final Pattern LAYER = Pattern.compile("blk\\.(\\d+)\\.(.+)\\.weight");

  /** Layers of the models that llama.cpp calls 70B, in which eight query heads share their keys. */
  private static final int LAYERS_OF_70B = 80;

  /** With so many experts attention is a small part of a model, and llama.cpp gives it more bits. */
  private static final int EXPERTS_OF_MIXTRAL = 8;

  private final GgmlType type;
  private final int fileType;

  GgufMix(GgmlType type, int fileType) {
    this.type = type;
    this.fileType = fileType;
  }

  /** The kind of that name, in any case; an {@link OribiException} that lists them. */
  public static GgufMix of(String name) {
    return Arrays.stream(values()).filter(m -> m.name().equals(name.toUpperCase(Locale.ROOT))).findFirst()
        .orElseThrow(() -> new OribiException("there is no GGUF type " + name + "; there are "
            + String.join(", ", Arrays.stream(values()).map(m -> m.name().toLowerCase(Locale.ROOT)).toList())));
  }

  /** {@code general.file_type} */
  int fileType() {
    return fileType;
  }

  boolean quantized() {
    return type.packed();
  }

  /**
   * What decides besides the name.
   *
   * @param layers of the model
   * @param grouped whether query heads share keys
   * @param experts of a layer; 0: none are routed
   * @param tied whether the embedding is the head too
   */
  record Model(int layers, boolean grouped, int experts, boolean tied) {
    static Model of(ModelConfig config, boolean tied) {
      int experts = config.architecture().layers().stream()
          .mapToInt(l -> l.mlp() instanceof ExpertsSpec x ? x.shape().experts() : 0).max().orElse(0);
      return new Model(config.numHiddenLayers(), config.groupSize() > 1, experts, tied);
    }
  }

  /** The type of a tensor, by llama.cpp's name. */
  GgmlType of(String name, long[] shape, Model model) {
    if (shape.length == 1) {
      return GgmlType.F32;
    }
    GgmlType wanted = wanted(name, model);
    return fitting(wanted, shape[shape.length - 1]);
  }

  private GgmlType wanted(String name, Model model) {
    if (name.equals("output.weight") || model.tied && name.equals("token_embd.weight")) {
      return type.packed() && type != GgmlType.Q8_0 ? GgmlType.Q6_K : type;
    }
    Matcher layer = LAYER.matcher(name);
    if (!layer.matches()) {
      return type;
    }
    boolean mixed = this == Q4_K_M || this == Q5_K_M;
    boolean more = mixed && moreBits(Integer.parseInt(layer.group(1)), model.layers);
    boolean mixtral = type.packed() && model.experts == EXPERTS_OF_MIXTRAL;
    return switch (layer.group(2)) {
      case "ffn_gate_inp" -> GgmlType.F32;
      case "attn_v", "attn_qkv", "attn_kv_b" -> mixtral ? GgmlType.Q8_0 : more ? GgmlType.Q6_K : values(model);
      case "attn_k" -> mixtral ? GgmlType.Q8_0 : type;
      case "attn_output" -> mixtral && this == Q4_K_M ? GgmlType.Q5_K : type;
      case "ffn_down", "ffn_down_exps", "ffn_down_shexp" -> more ? GgmlType.Q6_K : type;
      default -> type;
    };
  }

  private GgmlType values(Model model) {
    return type == GgmlType.Q4_K && model.layers == LAYERS_OF_70B && model.grouped ? GgmlType.Q5_K : type;
  }

  /** The first and the last eighth of the layers, and every third between. */
  private static boolean moreBits(int layer, int layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
  }

  /** A type whose blocks fill the rows. */
  private static GgmlType fitting(GgmlType type, long cols) {
    if (type.fits(cols)) {
      return type;
    }
    GgmlType smaller = switch (type) {
      case Q4_K -> GgmlType.Q5_0;
      case Q5_K -> GgmlType.Q5_1;
      case Q6_K -> GgmlType.Q8_0;
      default -> GgmlType.F16;
    };
    return smaller.fits(cols) ? smaller : GgmlType.F16;
  }
}
