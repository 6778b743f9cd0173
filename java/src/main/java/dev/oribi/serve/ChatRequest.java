package dev.oribi.serve;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.model.config.GenerationConfig;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A request for an answer or a continuation, by OpenAI's names and, for sampling, Hugging Face's too.
 *
 * @param messages of a chat; null for a continuation
 * @param prompt of a continuation; null for a chat
 * @param usage whether the last piece of a stream counts tokens
 */
record ChatRequest(List<Map<String, Object>> messages, String prompt, Generator.Options options, List<String> stops, boolean stream, boolean usage) {
  private static final int MAX_STOPS = 16;
  private static final int MAX_MESSAGES = 10_000;

  /** Reads a body; anything that cannot be honoured is refused by name. */
  static ChatRequest read(JsonNode json, boolean chat, TextModel model, int defaultTokens) {
    if (!json.isObject()) {
      throw new OribiException("the body must be a JSON object");
    }
    if (json.path("n").asInt(1) != 1) {
      throw new OribiException("n must be 1");
    }
    for (String unsupported : List.of("tools", "functions", "logprobs", "best_of", "suffix", "echo")) {
      JsonNode value = json.path(unsupported);
      if (value.isTextual() || value.isContainerNode() && value.size() > 0 || value.asBoolean()) {
        throw new OribiException(unsupported + " is not supported");
      }
    }
    return new ChatRequest(chat ? messages(json.path("messages")) : null, chat ? null : prompt(json.path("prompt")), options(json, model, defaultTokens),
        stops(json.path("stop")), json.path("stream").asBoolean(), json.path("stream_options").path("include_usage").asBoolean());
  }

  private static String prompt(JsonNode value) {
    JsonNode one = value.isArray() && value.size() == 1 ? value.get(0) : value;
    if (!one.isTextual()) {
      throw new OribiException("prompt must be a text");
    }
    return one.textValue();
  }

  private static List<Map<String, Object>> messages(JsonNode list) {
    if (!list.isArray() || list.isEmpty() || list.size() > MAX_MESSAGES) {
      throw new OribiException("messages must be a list of 1 to " + MAX_MESSAGES + " messages");
    }
    List<Map<String, Object>> messages = new ArrayList<>();
    for (JsonNode m : list) {
      if (!m.path("role").isTextual()) {
        throw new OribiException("a message needs a role");
      }
      Map<String, Object> message = new HashMap<>();
      message.put("role", m.get("role").textValue());
      message.put("content", content(m.path("content")));
      messages.add(message);
    }
    return messages;
  }

  /** A text, or a list of parts that are texts. */
  private static String content(JsonNode content) {
    if (content.isTextual()) {
      return content.textValue();
    }
    StringBuilder text = new StringBuilder();
    for (JsonNode part : content) {
      if (!part.path("type").asText().equals("text") || !part.path("text").isTextual()) {
        throw new OribiException("the content of a message can be text alone");
      }
      text.append(part.get("text").textValue());
    }
    if (!content.isArray()) {
      throw new OribiException("a message needs content, a text");
    }
    return text.toString();
  }

  private static List<String> stops(JsonNode value) {
    List<String> stops = new ArrayList<>();
    for (JsonNode stop : value.isTextual() ? List.of(value) : value) {
      if (!stop.isTextual() || stop.textValue().isEmpty()) {
        throw new OribiException("stop must be a text or a list of texts");
      }
      stops.add(stop.textValue());
    }
    if (stops.size() > MAX_STOPS) {
      throw new OribiException("stop has " + stops.size() + " texts, and " + MAX_STOPS + " are allowed");
    }
    return stops;
  }

  private static Generator.Options options(JsonNode json, TextModel model, int defaultTokens) {
    GenerationConfig d = model.defaults();
    double temperature = number(json, "temperature", d.doSample() ? d.temperature() : 0);
    String tokens = json.hasNonNull("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    double penalty = number(json, "repetition_penalty", d.repetitionPenalty());
    long seed = json.hasNonNull("seed") ? json.get("seed").asLong() : ThreadLocalRandom.current().nextLong();
    return new Generator.Options((int) number(json, tokens, defaultTokens), (float) temperature, (int) number(json, "top_k", d.topK()),
        (float) number(json, "top_p", d.topP()), (float) number(json, "min_p", d.minP()), (float) penalty, seed, model.stopIds());
  }

  private static double number(JsonNode json, String key, double ifMissing) {
    if (!json.hasNonNull(key)) {
      return ifMissing;
    }
    if (!json.get(key).isNumber() || !Double.isFinite(json.get(key).doubleValue())) {
      throw new OribiException(key + " must be a number");
    }
    return json.get(key).doubleValue();
  }
}
