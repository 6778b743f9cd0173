package dev.oribi.serve;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.oribi.OribiException;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.io.Json;
import dev.oribi.model.config.GenerationConfig;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A request for an answer or a continuation, by OpenAI's names and, for sampling, Hugging Face's too.
 *
 * @param model that is asked for; null for the one there is
 * @param messages of a chat; null for a continuation
 * @param variables that the chat template gets besides
 * @param prompt of a continuation; null for a chat
 * @param usage whether the last piece of a stream counts tokens
 */
record ChatRequest(String model, List<Map<String, Object>> messages, Map<String, Object> variables, String prompt, Generator.Options options, List<String> stops,
    boolean stream, boolean usage) {
  private static final int MAX_STOPS = 16;
  private static final int MAX_STOP_LENGTH = 1000;
  private static final int MAX_MESSAGES = 10_000;
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final String VARIABLES = "chat_template_kwargs";
  private static final Set<String> SAMPLING = Set.of("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop",
      "max_tokens", "max_completion_tokens", "stream", "stream_options", "model");

  /** Reads a body; anything that cannot be honoured is refused by name. */
  static ChatRequest read(JsonNode json, boolean chat, TextModel model, int defaultTokens) {
    Set<String> known = new HashSet<>(SAMPLING);
    known.addAll(chat ? List.of("messages", VARIABLES) : List.of("prompt"));
    RequestFields fields = new RequestFields(json, known);
    if (fields.has("model") && !fields.get("model").isTextual()) {
      throw new OribiException("model must be a text");
    }
    boolean stream = fields.flag("stream");
    return new ChatRequest(fields.get("model").textValue(), chat ? messages(fields.get("messages")) : null, variables(fields),
        chat ? null : prompt(fields.get("prompt")), options(fields, model, defaultTokens), stops(fields.get("stop")), stream,
        usage(fields, stream));
  }

  private static boolean usage(RequestFields fields, boolean stream) {
    if (!fields.has("stream_options")) {
      return false;
    }
    JsonNode options = fields.get("stream_options");
    if (!options.isObject() || !stream) {
      throw new OribiException(stream ? "stream_options must be a JSON object" : "stream_options are for \"stream\": true");
    }
    for (Map.Entry<String, JsonNode> option : options.properties()) {
      boolean harmless = option.getKey().equals("include_obfuscation") && !option.getValue().asBoolean();
      if (!option.getKey().equals("include_usage") && !harmless) {
        throw new OribiException("there is no field stream_options." + Json.shorten(option.getKey()) + "; there is include_usage");
      }
    }
    return RequestFields.flag(options, "include_usage");
  }

  /** As {@code enable_thinking}, by the name that other servers of open models have for it. */
  private static Map<String, Object> variables(RequestFields fields) {
    if (!fields.has(VARIABLES)) {
      return Map.of();
    }
    JsonNode given = fields.get(VARIABLES);
    if (!given.isObject()) {
      throw new OribiException(VARIABLES + " must be a JSON object");
    }
    for (String own : List.of("messages", "tools", "documents", "add_generation_prompt")) {
      if (given.has(own)) {
        throw new OribiException(VARIABLES + " cannot change " + own);
      }
    }
    return MAPPER.convertValue(given, new TypeReference<Map<String, Object>>() {});
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
      for (Map.Entry<String, JsonNode> field : m.properties()) {
        boolean empty = field.getValue().isNull() || field.getValue().isContainerNode() && field.getValue().isEmpty();
        if (!Set.of("role", "content", "name").contains(field.getKey()) && !empty) {
          throw new OribiException("a message has " + Json.shorten(field.getKey()) + ", and only role, content and name are supported");
        }
      }
      Map<String, Object> message = new HashMap<>();
      message.put("role", m.get("role").textValue());
      message.put("content", content(m.path("content")));
      if (m.hasNonNull("name")) {
        message.put("name", m.get("name").asText());
      }
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
    if (value.isMissingNode() || value.isNull()) {
      return List.of();
    }
    List<String> stops = new ArrayList<>();
    for (JsonNode stop : value.isArray() ? value : List.of(value)) {
      if (!stop.isTextual() || stop.textValue().isEmpty()) {
        throw new OribiException("stop must be a text or a list of texts");
      }
      if (stop.textValue().length() > MAX_STOP_LENGTH) {
        throw new OribiException("stop has a text of more than " + MAX_STOP_LENGTH + " characters");
      }
      stops.add(stop.textValue());
    }
    if (stops.size() > MAX_STOPS) {
      throw new OribiException("stop has " + stops.size() + " texts, and " + MAX_STOPS + " are allowed");
    }
    return stops;
  }

  private static Generator.Options options(RequestFields fields, TextModel model, int defaultTokens) {
    GenerationConfig d = model.defaults();
    String tokens = fields.has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    if (fields.has(tokens) && fields.count(tokens, 0) < 1) {
      throw new OribiException(tokens + " must be at least 1, and is " + Json.shorten(Json.compact(fields.get(tokens))));
    }
    return new Generator.Options(fields.count(tokens, defaultTokens), fields.number("temperature", d.doSample() ? d.temperature() : 0),
        fields.count("top_k", d.topK()), fields.number("top_p", d.topP()), fields.number("min_p", d.minP()),
        fields.number("repetition_penalty", d.repetitionPenalty()), fields.seed("seed", ThreadLocalRandom.current().nextLong()),
        model.stopIds());
  }
}
