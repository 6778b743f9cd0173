package dev.oribi.testing;

import dev.oribi.data.MicroBatch;
import dev.oribi.io.Json;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;

/** Configurations and batches that are small, asymmetric and the same for every run. */
public final class TinyModels {
  private TinyModels() {}

  /** C 10, F 12, 2 layers, 4 query and 2 key heads of 4, V 13: no two sizes are equal, and H*D is not C. */
  public static ModelConfig tiny(String act, boolean tied) {
    return config(10, 12, 2, 4, 2, 4, 13, act, tied);
  }

  /** Of a size at which blocks, tails and several threads are at work: C 64, F 172, 3 layers, V 512. */
  public static ModelConfig small(boolean tied) {
    return config(64, 172, 3, 8, 4, 8, 512, "silu", tied);
  }

  public static ModelConfig config(
      int hidden, int intermediate, int layers, int heads, int kvHeads, int headDim, int vocabulary, String act, boolean tied) {
    return new ModelConfig(
        "llama", hidden, intermediate, layers, heads, kvHeads, headDim, vocabulary, 512, 1e-5, act, RopeConfig.plain(10_000),
        tied, "float32", OptionalInt.of(1), List.of(2), OptionalInt.empty(), null);
  }

  /** The smallest models that have what is special in each family: the same sizes as {@link #tiny}. */
  public static Map<String, ModelConfig> families() {
    Map<String, ModelConfig> all = new LinkedHashMap<>();
    all.put("llama, biases", family("llama", "\"attention_bias\": true, \"mlp_bias\": true"));
    all.put("llama, dynamic", family("llama", "\"max_position_embeddings\": 4, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.0}"));
    all.put("mistral, window", family("mistral", "\"sliding_window\": 3"));
    all.put("qwen2", family("qwen2", "\"use_sliding_window\": true, \"sliding_window\": 2, \"max_window_layers\": 1"));
    all.put("qwen3, yarn", family("qwen3", "\"tie_word_embeddings\": true, \"attention_bias\": true, \"rope_scaling\": {\"rope_type\":"
        + " \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 4, \"beta_fast\": 2.0, \"beta_slow\": 0.2}"));
    all.put("gemma", family("gemma", "\"hidden_act\": \"gelu\""));
    all.put("gemma2", family("gemma2", "\"sliding_window\": 3, \"attn_logit_softcapping\": 1.5, \"final_logit_softcapping\": 2.0,"
        + " \"query_pre_attn_scalar\": 7"));
    all.put("gemma3", family("gemma3_text", "\"sliding_window\": 3, \"sliding_window_pattern\": 2, \"query_pre_attn_scalar\": 7,"
        + " \"rope_local_base_freq\": 50.0, \"rope_theta\": 5000.0, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 3.0}"));
    all.put("phi3, longrope", family("phi3", "\"sliding_window\": 6, \"partial_rotary_factor\": 0.5, \"max_position_embeddings\": 64,"
        + " \"original_max_position_embeddings\": 4, \"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1.5], \"long_factor\": [3.0]}"));
    all.put("smollm3", family("smollm3", "\"no_rope_layers\": [0, 1], \"use_sliding_window\": true, \"sliding_window\": 3"));
    return all;
  }

  /** The families with experts, and with latent attention. */
  public static Map<String, ModelConfig> routedFamilies() {
    String latent = "\"kv_lora_rank\": 8, \"qk_nope_head_dim\": 8, \"qk_rope_head_dim\": 8, \"v_head_dim\": 8,"
        + " \"moe_intermediate_size\": 64, \"n_shared_experts\": 1, \"num_experts_per_tok\": 2, \"first_k_dense_replace\": 1, ";
    Map<String, ModelConfig> all = new LinkedHashMap<>();
    all.put("mixtral", family("mixtral", "\"num_local_experts\": 4, \"num_experts_per_tok\": 2"));
    all.put("qwen3_moe", family("qwen3_moe", "\"num_experts\": 6, \"num_experts_per_tok\": 3, \"moe_intermediate_size\": 64,"
        + " \"norm_topk_prob\": true, \"mlp_only_layers\": [0]"));
    all.put("deepseek_v2", family("deepseek_v2", latent + "\"n_routed_experts\": 4, \"q_lora_rank\": null"));
    all.put("deepseek_v3", family("deepseek_v3", latent + "\"n_routed_experts\": 8, \"n_group\": 4, \"topk_group\": 2, \"q_lora_rank\": 8"));
    return all;
  }

  private static ModelConfig family(String modelType, String more) {
    String json = "{\"model_type\": \"" + modelType + "\", \"hidden_size\": 10, \"intermediate_size\": 12, \"num_hidden_layers\": 2,"
        + " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4, \"vocab_size\": 13, \"rms_norm_eps\": 1e-5, " + more + "}";
    return ModelConfig.parse(Json.parse(json, modelType), modelType);
  }

  /** A sequence of random tokens in which every one is a target. */
  public static Sequence sequence(Random random, int length, int vocabulary) {
    int[] ids = random.ints(length, 0, vocabulary).toArray();
    return new Sequence(ids, ids.clone());
  }

  /** The same with the first {@code prompt} labels masked. */
  public static Sequence masked(Sequence s, int prompt) {
    int[] labels = s.labels().clone();
    Arrays.fill(labels, 0, Math.min(prompt, labels.length), MicroBatch.IGNORE);
    return new Sequence(s.ids(), labels);
  }

  public static List<Sequence> sequences(long seed, int vocabulary, int... lengths) {
    Random random = new Random(seed);
    List<Sequence> all = new ArrayList<>();
    for (int length : lengths) {
      all.add(sequence(random, length, vocabulary));
    }
    return all;
  }

  /** Sequences laid end to end. */
  public static MicroBatch batch(List<Sequence> sequences) {
    int tokens = sequences.stream().mapToInt(s -> s.ids().length).sum();
    int[] ids = new int[tokens];
    int[] targets = new int[tokens];
    int[] positions = new int[tokens];
    int[] cuSeqlens = new int[sequences.size() + 1];
    int at = 0;
    for (int s = 0; s < sequences.size(); s++) {
      int[] row = sequences.get(s).ids();
      for (int t = 0; t < row.length; t++, at++) {
        ids[at] = row[t];
        positions[at] = t;
        targets[at] = t + 1 < row.length ? sequences.get(s).labels()[t + 1] : MicroBatch.IGNORE;
      }
      cuSeqlens[s + 1] = at;
    }
    return new MicroBatch(ids, targets, positions, cuSeqlens, new int[sequences.size()]);
  }

  public static int targets(List<Sequence> sequences) {
    return batch(sequences).targetTokens();
  }
}
