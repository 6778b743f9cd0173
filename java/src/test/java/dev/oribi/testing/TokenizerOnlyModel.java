package dev.oribi.testing;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.gguf.TokenizerKeys;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.io.Json;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A GGUF file of the smallest Llama that there can be, all zeros, around a tokenizer. */
public final class TokenizerOnlyModel {
  private TokenizerOnlyModel() {}

  /** @param tokenizer folder of a tokenizer.json */
  public static Path write(Path out, Path tokenizer) {
    return write(out, tokenizer, "a tokenizer");
  }

  /** @param title what the user calls the model */
  public static Path write(Path out, Path tokenizer, String title) {
    ObjectNode json = Json.object().put("model_type", "llama").put("hidden_size", 32).put("intermediate_size", 32)
        .put("num_hidden_layers", 1).put("num_attention_heads", 1).put("tie_word_embeddings", true);
    try (Tokenizer t = Tokenizer.load(tokenizer)) {
      json.put("vocab_size", t.vocabSize());
    }
    ModelConfig config = ModelConfig.parse(json, "test");
    GgufFamily family = GgufFamilies.ofModelType("llama");
    Map<String, GgufValue> keys = new LinkedHashMap<>(family.keys(config).values());
    keys.put("general.name", TokenizerKeys.name(tokenizer, title));
    keys.putAll(TokenizerKeys.of(tokenizer, config.vocabSize(), GenerationConfig.read(tokenizer, config), Optional.empty()));
    List<GgufWriter.Tensor> tensors = ModelTensors.of(config).stream()
        .map(s -> new GgufWriter.Tensor(family.names(config).place(s.name()).tensor(), s.shape().length == 1 ? GgmlType.F32 : GgmlType.F16, s.shape()))
        .toList();
    GgufWriter.write(out, keys, tensors, (t, sink) -> {
      float[] zeros = new float[Math.toIntExact(t.shape()[t.shape().length - 1])];
      for (long at = 0; at < t.elements(); at += zeros.length) {
        sink.floats(zeros, zeros.length);
      }
    });
    return out;
  }
}
