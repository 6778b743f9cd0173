package dev.oribi.text;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.oribi.OribiException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The arguments of tool calls. Files in OpenAI's form have them as a string of JSON, templates want the object: as a string they
 * would be written in quotes.
 */
public final class ToolCalls {
  private static final JsonMapper MAPPER = new JsonMapper(JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(64).build()).build());

  private ToolCalls() {}

  /** Replaces the messages that have such strings by ones with objects. */
  public static void parseArguments(List<Map<String, Object>> messages, String source) {
    for (int i = 0; i < messages.size(); i++) {
      if (messages.get(i).get("tool_calls") instanceof List<?> calls) {
        List<Object> parsed = new ArrayList<>();
        for (Object call : calls) {
          parsed.add(parse(call, source));
        }
        Map<String, Object> message = new LinkedHashMap<>(messages.get(i));
        message.put("tool_calls", parsed);
        messages.set(i, message);
      }
    }
  }

  private static Object parse(Object call, String source) {
    if (!(call instanceof Map<?, ?> fields) || !(fields.get("function") instanceof Map<?, ?> function)
        || !(function.get("arguments") instanceof String text)) {
      return call;
    }
    Map<Object, Object> newFunction = new LinkedHashMap<>(function);
    newFunction.put("arguments", read(text, source));
    Map<Object, Object> newCall = new LinkedHashMap<>(fields);
    newCall.put("function", newFunction);
    return newCall;
  }

  private static Object read(String text, String source) {
    try {
      JsonNode json = text.isBlank() ? MAPPER.createObjectNode() : MAPPER.readTree(text);
      if (json.isObject()) {
        return MAPPER.convertValue(json, Object.class);
      }
    } catch (JsonProcessingException e) {
      throw new OribiException(source + ": the arguments of a tool call are a string, but not one of valid JSON.", e);
    }
    throw new OribiException(source + ": the arguments of a tool call are a string of JSON, but not of an object.");
  }
}
