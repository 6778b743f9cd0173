package dev.oribi.gguf;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;

/** The sizes of a model as a GGUF file states them, and the config.json that says the same. */
record GgufSizes(GgufFile file, String prefix, int layers, int hidden, int feedForward, int heads, int kvHeads, int headDim,
    int vocabulary) {
  private static final int MOST = 1 << 24;

  static GgufSizes read(GgufFile file, GgufFamily family) {
    String p = family.architecture() + ".";
    int hidden = integer(file, p + "embedding_length", 1);
    int heads = integer(file, p + "attention.head_count", 1);
    if (!file.metadata().containsKey(p + "attention.key_length") && hidden % heads != 0) {
      throw new OribiException(file.where(p + "attention.head_count") + " must divide the embedding_length " + hidden + ".");
    }
    int headDim = integer(file, p + "attention.key_length", hidden / heads, 2);
    if (integer(file, p + "attention.value_length", headDim, 1) != headDim) {
      throw new OribiException(file.where(p + "attention.value_length") + " differs from key_length, which is not supported.");
    }
    if (integer(file, p + "rope.dimension_count", headDim, 1) != headDim) {
      throw new OribiException(file.where(p + "rope.dimension_count") + " differs from the size of a head, which is not supported.");
    }
    if (integer(file, p + "expert_count", 0, 0) != 0) {
      throw new OribiException(file.where(p + "expert_count") + ": experts are not supported.");
    }
    GgufTensor embedding = file.tensor("token_embd.weight");
    return new GgufSizes(file, p, integer(file, p + "block_count", 1), hidden, integer(file, p + "feed_forward_length", 1), heads,
        integer(file, p + "attention.head_count_kv", heads, 1), headDim, Math.toIntExact(embedding.rows()));
  }

  private static int integer(GgufFile file, String key, int least) {
    return (int) file.required(key).integer(file.where(key), least, MOST);
  }

  private static int integer(GgufFile file, String key, int ifMissing, int least) {
    return file.metadata().containsKey(key) ? integer(file, key, least) : ifMissing;
  }

  private double number(String key, double ifMissing) {
    GgufValue value = file.metadata().get(prefix + key);
    return value == null ? ifMissing : value.number(file.where(prefix + key));
  }

  /** A config.json in Hugging Face's words. */
  ObjectNode config(GgufFamily family, boolean tied) {
    ObjectNode json = Json.object();
    json.putArray("architectures").add("LlamaForCausalLM");
    json.put("model_type", family.modelType()).put("hidden_size", hidden).put("intermediate_size", feedForward)
        .put("num_hidden_layers", layers).put("num_attention_heads", heads).put("num_key_value_heads", kvHeads)
        .put("head_dim", headDim).put("vocab_size", vocabulary)
        .put("max_position_embeddings", integer(file, prefix + "context_length", 2048, 1))
        .put("rms_norm_eps", single(number("attention.layer_norm_rms_epsilon", 1e-5))).put("hidden_act", "silu")
        .put("tie_word_embeddings", tied).put("torch_dtype", "float16").put("attention_bias", false).put("mlp_bias", false);
    putRope(json);
    return json;
  }

  /** 1e-5 as a float is 0.0000099999997; the shortest decimal number that gives the same float is what was meant. */
  private static double single(double value) {
    return Double.parseDouble(Float.toString((float) value));
  }

  private void putRope(ObjectNode json) {
    json.put("rope_theta", single(number("rope.freq_base", 10_000)));
    GgufValue type = file.metadata().get(prefix + "rope.scaling.type");
    String scaling = type == null ? "none" : type.text(file.where(prefix + "rope.scaling.type"));
    GgufTensor factors = file.tensors().get("rope_freqs.weight");
    if (factors != null) {
      json.set("rope_scaling", RopeFactors.guess(file, factors, headDim, single(number("rope.freq_base", 10_000))));
      return;
    }
    switch (scaling) {
      case "none" -> json.putNull("rope_scaling");
      case "linear" -> json.putObject("rope_scaling").put("rope_type", "linear").put("factor", single(number("rope.scaling.factor", 1)));
      default -> throw new OribiException(file.where(prefix + "rope.scaling.type") + " " + Json.shorten(scaling) + " is not supported.");
    }
  }
}
