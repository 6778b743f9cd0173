package dev.oribi.testing;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A configuration of each family that GGUF can hold, with what is special in it. Rows are whole blocks of 256 where the family lets
 * them be, so that every mix is what it is in a large model; windows, contexts and groups are small enough to matter within a
 * short text.
 */
public final class FamilyConfigs {
  private static final String YARN = "'rope_type': 'yarn', 'factor': 8.0, 'original_max_position_embeddings': 64";
  private static final String EXPERTS = "'num_experts_per_tok': 2, 'moe_intermediate_size': 256, ";

  private static final String FACTORS_OF_16 = "'short_factor': [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],"
      + " 'long_factor': [1, 1, 1.5, 1.5, 2, 2, 2.5, 2.5, 3, 3, 3.5, 4, 5, 6, 8, 12]";

  private FamilyConfigs() {}

  /** By name. The vocabulary is that of the tiny model's tokenizer. */
  public static Map<String, ObjectNode> all() {
    Map<String, ObjectNode> all = new LinkedHashMap<>();
    llamas(all);
    qwens(all);
    gemmas(all);
    phis(all);
    deepseeks(all);
    return all;
  }

  private static void llamas(Map<String, ObjectNode> all) {
    all.put("llama", family("llama", "'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,"
        + " 'high_freq_factor': 4.0, 'original_max_position_embeddings': 8192}, 'rope_theta': 5e5"));
    all.put("llama with biases", family("llama", "'attention_bias': true, 'mlp_bias': true, 'rope_scaling': {'rope_type': 'linear',"
        + " 'factor': 2.0}"));
    all.put("llama, yarn", family("llama", "'head_dim': 64, 'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0,"
        + " 'attention_factor': 1.3, 'original_max_position_embeddings': 128}"));
    all.put("llama, long factors", family("llama", "'original_max_position_embeddings': 6, 'rope_scaling': {'rope_type': 'longrope', "
        + FACTORS_OF_16 + "}"));
    all.put("mistral", family("mistral", "'head_dim': 64, 'rope_theta': 1e6, 'sliding_window': null"));
    all.put("smollm3", family("smollm3", "'num_hidden_layers': 5, 'tie_word_embeddings': true, 'rope_theta': 2e6"));
    all.put("mixtral", family("mixtral", "'num_local_experts': 6, 'num_experts_per_tok': 2, 'intermediate_size': 256"));
  }

  private static void qwens(Map<String, ObjectNode> all) {
    all.put("qwen2", family("qwen2", "'tie_word_embeddings': true"));
    all.put("qwen3", family("qwen3", "'head_dim': 64, 'rope_theta': 1e6, 'rope_scaling': {" + YARN + "}"));
    all.put("qwen3_moe", family("qwen3_moe", EXPERTS + "'head_dim': 64, 'num_experts': 6, 'norm_topk_prob': true"));
  }

  private static void gemmas(Map<String, ObjectNode> all) {
    String tied = "'tie_word_embeddings': true, ";
    all.put("gemma", family("gemma", tied + "'head_dim': 64, 'hidden_activation': 'gelu_pytorch_tanh'"));
    all.put("gemma2", family("gemma2", tied + "'head_dim': 64, 'query_pre_attn_scalar': 64, 'sliding_window': 7,"
        + " 'attn_logit_softcapping': 3.0, 'final_logit_softcapping': 5.0"));
    all.put("gemma2, 46 layers", family("gemma2", tied + "'num_hidden_layers': 46, 'head_dim': 64, 'query_pre_attn_scalar': 32,"
        + " 'sliding_window': 7, 'intermediate_size': 256, 'num_key_value_heads': 2"));
    all.put("gemma3", family("gemma3_text", tied + "'num_hidden_layers': 7, 'head_dim': 64, 'query_pre_attn_scalar': 64, 'sliding_window': 7,"
        + " 'rope_theta': 1e6, 'rope_local_base_freq': 1e4, 'rope_scaling': {'rope_type': 'linear', 'factor': 8.0}"));
    all.put("gemma3, every other layer", family("gemma3_text", tied + "'head_dim': 64, 'query_pre_attn_scalar': 64, 'sliding_window': 7,"
        + " 'rope_theta': 1e6, 'rope_local_base_freq': 5e3, 'layer_types': ['sliding_attention', 'full_attention', 'sliding_attention']"));
  }

  private static void phis(Map<String, ObjectNode> all) {
    String factors = "'short_factor': [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1],"
        + " 'long_factor': [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]";
    all.put("phi3", family("phi3", "'original_max_position_embeddings': 512"));
    all.put("phi3, short factors", family("phi3", "'partial_rotary_factor': 0.75, 'original_max_position_embeddings': 1024,"
        + " 'max_position_embeddings': 4096, 'rope_scaling': {'type': 'longrope', " + factors + "}"));
    all.put("phi3, long factors", family("phi3", "'tie_word_embeddings': true, 'partial_rotary_factor': 0.75,"
        + " 'original_max_position_embeddings': 6, 'max_position_embeddings': 512, 'rope_scaling': {'type': 'longrope', " + factors + "}"));
  }

  private static void deepseeks(Map<String, ObjectNode> all) {
    String latent = EXPERTS + "'num_key_value_heads': 8, 'kv_lora_rank': 64, 'qk_nope_head_dim': 32, 'qk_rope_head_dim': 16,"
        + " 'v_head_dim': 32, 'first_k_dense_replace': 1, 'n_shared_experts': 1, ";
    String yarn = "'rope_scaling': {" + YARN + ", 'type': 'yarn', 'beta_fast': 32, 'beta_slow': 1, 'mscale': %1$s, 'mscale_all_dim': %1$s}";
    all.put("deepseek_v2", family("deepseek_v2", latent + "'n_routed_experts': 6, 'q_lora_rank': null, 'topk_method': 'greedy',"
        + " 'norm_topk_prob': false, 'routed_scaling_factor': 1.0, " + yarn.formatted("0.707")));
    all.put("deepseek_v2, queries of low rank", family("deepseek_v2", latent + "'n_routed_experts': 4, 'q_lora_rank': 128,"
        + " 'topk_method': 'greedy', 'routed_scaling_factor': 2.0"));
    all.put("deepseek_v3", family("deepseek_v3", latent + "'n_routed_experts': 8, 'q_lora_rank': 128, 'n_group': 4, 'topk_group': 2,"
        + " 'topk_method': 'noaux_tc', 'scoring_func': 'sigmoid', 'norm_topk_prob': true, 'routed_scaling_factor': 2.5, "
        + yarn.formatted("1.0")));
  }

  private static ObjectNode family(String modelType, String more) {
    ObjectNode config = json("'model_type': '" + modelType + "', 'vocab_size': 2048, 'hidden_size': 256, 'intermediate_size': 512,"
        + " 'num_hidden_layers': 3, 'num_attention_heads': 8, 'num_key_value_heads': 4, 'max_position_embeddings': 512,"
        + " 'rms_norm_eps': 1e-6, 'tie_word_embeddings': false, 'torch_dtype': 'float32', 'bos_token_id': 0, 'eos_token_id': 0,"
        + " 'pad_token_id': 1", modelType);
    config.setAll(json(more, modelType));
    return config;
  }

  private static ObjectNode json(String fields, String where) {
    return (ObjectNode) Json.parse("{" + fields.replace('\'', '"') + "}", where);
  }
}
