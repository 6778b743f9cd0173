package dev.oribi.model.config;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalInt;

/**
 * How a model's text is sampled when the user does not say: {@code generation_config.json}, with Hugging Face's defaults.
 *
 * @param eosTokenIds ids that end the text; from {@code config.json} if {@code generation_config.json} has none
 * @param bosTokenId id that begins a text; likewise
 * @param padTokenId likewise
 * @param doSample draw tokens at random; otherwise always take the likeliest
 * @param temperature logits are divided by it before drawing
 * @param topK draw among the k likeliest; 0 is off
 * @param topP draw among the likeliest that together have this probability; 1 is off
 * @param minP draw among those at least this fraction as likely as the likeliest; 0 is off
 * @param repetitionPenalty makes tokens that occurred before less likely; 1 is off
 * @param maxNewTokens tokens to generate at most; empty if the files do not say
 */
public record GenerationConfig(List<Integer> eosTokenIds, OptionalInt bosTokenId, OptionalInt padTokenId, boolean doSample,
    double temperature, int topK, double topP, double minP, double repetitionPenalty, OptionalInt maxNewTokens) {
  public static final String FILE = "generation_config.json";

  public GenerationConfig {
    eosTokenIds = List.copyOf(eosTokenIds);
  }

  /** Reads the file of a model folder; a folder without one gets the defaults, and the ids of its {@code config.json}. */
  public static GenerationConfig read(Path folder, ModelConfig model) {
    Path file = folder.resolve(FILE);
    ObjectNode json = Files.exists(file) ? Json.readObject(file) : Json.object();
    return parse(Fields.of(json, file.toString()), model);
  }

  private static GenerationConfig parse(Fields config, ModelConfig model) {
    return new GenerationConfig(
        config.has("eos_token_id") ? config.ids("eos_token_id") : model.eosTokenIds(),
        config.has("bos_token_id") ? config.id("bos_token_id") : model.bosTokenId(),
        config.has("pad_token_id") ? config.id("pad_token_id") : model.padTokenId(),
        config.flag("do_sample", false),
        config.number("temperature", 0, 1e6, 1),
        config.integer("top_k", 0, Integer.MAX_VALUE, 50),
        config.number("top_p", 0, 1, 1),
        config.number("min_p", 0, 1, 0),
        config.number("repetition_penalty", 1e-3, 1e3, 1),
        config.has("max_new_tokens") ? OptionalInt.of(config.integer("max_new_tokens", 1, Integer.MAX_VALUE)) : OptionalInt.empty());
  }

  /** The file's content, ready to be written. */
  public ObjectNode toJson() {
    ObjectNode json = Json.object();
    ModelConfig.putIds(json, "eos_token_id", eosTokenIds);
    ModelConfig.putId(json, "bos_token_id", bosTokenId);
    ModelConfig.putId(json, "pad_token_id", padTokenId);
    json.put("do_sample", doSample).put("temperature", temperature).put("top_k", topK).put("top_p", topP)
        .put("min_p", minP).put("repetition_penalty", repetitionPenalty);
    maxNewTokens.ifPresent(n -> json.put("max_new_tokens", n));
    return json;
  }
}
