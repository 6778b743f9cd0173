package dev.oribi.serve;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;

/**
 * The fields of a request, each of the type that it must have. What is not known is refused by name: an answer that leaves a wish
 * out without a word would be taken for one that grants it.
 */
final class RequestFields {
  /** They say nothing about the text of an answer. */
  private static final Set<String> WITHOUT_EFFECT =
      Set.of("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls");

  /** Known from OpenAI's interface and not implemented; what asks for nothing, as clients send it, is let through. */
  private static final Map<String, Predicate<JsonNode>> UNSUPPORTED = Map.ofEntries(
      Map.entry("n", v -> v.isNumber() && v.asDouble() == 1), Map.entry("best_of", v -> v.isNumber() && v.asDouble() == 1),
      Map.entry("presence_penalty", RequestFields::isZero), Map.entry("frequency_penalty", RequestFields::isZero),
      Map.entry("logit_bias", RequestFields::isEmpty), Map.entry("logprobs", v -> v.isBoolean() && !v.asBoolean()),
      Map.entry("top_logprobs", RequestFields::isZero), Map.entry("tools", RequestFields::isEmpty),
      Map.entry("functions", RequestFields::isEmpty), Map.entry("tool_choice", RequestFields::isNoTool),
      Map.entry("function_call", RequestFields::isNoTool), Map.entry("response_format", v -> v.path("type").asText().equals("text")),
      Map.entry("echo", v -> v.isBoolean() && !v.asBoolean()), Map.entry("suffix", v -> v.isTextual() && v.textValue().isEmpty()),
      Map.entry("modalities", v -> v.size() == 1 && v.path(0).asText().equals("text")));

  private final JsonNode json;

  /** @param known fields that the caller of this reads */
  RequestFields(JsonNode json, Set<String> known) {
    if (!json.isObject()) {
      throw new OribiException("the body must be a JSON object");
    }
    this.json = json;
    for (Map.Entry<String, JsonNode> field : json.properties()) {
      String name = field.getKey();
      if (known.contains(name) || WITHOUT_EFFECT.contains(name) || field.getValue().isNull()) {
        continue;
      }
      Predicate<JsonNode> asksNothing = UNSUPPORTED.get(name);
      if (asksNothing == null) {
        throw new OribiException("there is no field " + Json.shorten(name) + "; there are " + String.join(", ", new TreeSet<>(known)));
      }
      if (!asksNothing.test(field.getValue())) {
        throw new OribiException(name + ": " + Json.shorten(Json.compact(field.getValue())) + " is not supported" + remedy(name));
      }
    }
  }

  private static String remedy(String name) {
    return List.of("n", "best_of").contains(name) ? ": it must be 1" : ": leave it out";
  }

  private static boolean isZero(JsonNode value) {
    return value.isNumber() && value.asDouble() == 0;
  }

  private static boolean isEmpty(JsonNode value) {
    return value.isContainerNode() && value.isEmpty();
  }

  private static boolean isNoTool(JsonNode value) {
    return value.isTextual() && List.of("none", "auto").contains(value.textValue());
  }

  JsonNode get(String name) {
    return json.path(name);
  }

  boolean has(String name) {
    return json.hasNonNull(name);
  }

  boolean flag(String name) {
    return flag(json, name);
  }

  static boolean flag(JsonNode object, String name) {
    JsonNode value = object.path(name);
    if (object.hasNonNull(name) && !value.isBoolean()) {
      throw new OribiException(name + " must be true or false");
    }
    return value.asBoolean();
  }

  /** A number that a float holds. */
  float number(String name, double ifMissing) {
    if (!has(name)) {
      return (float) ifMissing;
    }
    float value = json.get(name).isNumber() ? json.get(name).floatValue() : Float.NaN;
    if (!Float.isFinite(value)) {
      throw new OribiException(name + " must be a number, and is " + Json.shorten(Json.compact(json.get(name))));
    }
    return value;
  }

  /** A whole number; one beyond an int's range is as good as the end of it. */
  int count(String name, int ifMissing) {
    if (!has(name)) {
      return ifMissing;
    }
    requireWhole(name);
    return (int) Math.max(Integer.MIN_VALUE, Math.min(Integer.MAX_VALUE, json.get(name).doubleValue()));
  }

  long seed(String name, long ifMissing) {
    if (!has(name)) {
      return ifMissing;
    }
    requireWhole(name);
    if (!json.get(name).canConvertToLong()) {
      throw new OribiException(name + " must be a whole number of 64 bits");
    }
    return json.get(name).longValue();
  }

  private void requireWhole(String name) {
    if (!json.get(name).isNumber() || !json.get(name).canConvertToExactIntegral()) {
      throw new OribiException(name + " must be a whole number, and is " + Json.shorten(Json.compact(json.get(name))));
    }
  }
}
