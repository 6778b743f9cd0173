package dev.oribi.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.oribi.OribiException;
import dev.oribi.text.Message;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Conversations in JSON, checked and in the form that chat templates read. */
final class ChatRecords {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Set<String> ROLES = Set.of("system", "developer", "user", "assistant", "tool");
  /** The speakers of ShareGPT and the roles that they have in a chat template. */
  private static final Map<String, String> SHAREGPT_ROLES = Map.of("system", "system", "human", "user", "user", "user",
      "gpt", "assistant", "assistant", "assistant", "function_call", "assistant", "observation", "tool", "tool", "tool");

  private ChatRecords() {}

  /** Messages with role and content; other keys, such as tool_calls, are passed on. */
  static List<Map<String, Object>> messages(Fields fields, String key) {
    List<Map<String, Object>> messages = new ArrayList<>();
    for (Fields message : fields.objects(key)) {
      String role = message.string("role");
      if (!ROLES.contains(role)) {
        throw unknownRole(fields.source(), role, ROLES);
      }
      JsonNode content = message.json().path("content");
      boolean silent = (content.isNull() || content.isMissingNode()) && message.has("tool_calls");
      if (!silent && !content.isArray()) {
        message.string("content");
      }
      messages.add(plain(message.json()));
    }
    return messages;
  }

  /** Turns with from and value, as ShareGPT has them; a function_call's value is JSON with name and arguments. */
  static List<Map<String, Object>> shareGpt(Fields fields) {
    List<Map<String, Object>> messages = new ArrayList<>();
    if (fields.has("system") && !fields.string("system").isEmpty()) {
      messages.add(new Message("system", fields.string("system")).toMap());
    }
    for (Fields turn : fields.objects("conversations")) {
      String from = turn.string("from");
      String role = SHAREGPT_ROLES.get(from);
      if (role == null) {
        throw unknownRole(fields.source(), from, SHAREGPT_ROLES.keySet());
      }
      messages.add(from.equals("function_call") ? functionCall(fields.source(), turn.string("value"))
          : new Message(role, turn.string("value")).toMap());
    }
    return messages;
  }

  private static Map<String, Object> functionCall(String source, String value) {
    JsonNode call = parse(source, "a function_call", value);
    if (!call.path("name").isTextual() || !call.path("arguments").isObject()) {
      throw new OribiException(source + ": a function_call must be an object with a name and arguments.");
    }
    Map<String, Object> message = new LinkedHashMap<>(new Message("assistant", "").toMap());
    message.put("tool_calls", List.of(Map.of("type", "function", "function", plain(call))));
    return message;
  }

  /** The tools that a conversation may use: a list, or a string that holds one as JSON. An empty string means none. */
  static Object tools(Fields fields) {
    JsonNode tools = fields.get("tools");
    if (tools.isTextual() && tools.textValue().isBlank()) {
      return null;
    }
    JsonNode list = tools.isTextual() ? parse(fields.source(), "'tools'", tools.textValue()) : tools;
    if (!list.isArray()) {
      throw new OribiException(fields.source() + ": 'tools' must be a list of tools.");
    }
    return MAPPER.convertValue(list, Object.class);
  }

  private static JsonNode parse(String source, String what, String text) {
    try {
      return MAPPER.readTree(text);
    } catch (JsonProcessingException e) {
      throw new OribiException(source + ": " + what + " is a string, but not one of valid JSON.", e);
    }
  }

  @SuppressWarnings("unchecked")
  private static Map<String, Object> plain(JsonNode object) {
    return MAPPER.convertValue(object, LinkedHashMap.class);
  }

  private static OribiException unknownRole(String source, String role, Set<String> known) {
    return new OribiException(source + ": the role '" + role + "' is unknown: use one of "
        + String.join(", ", known.stream().sorted().toList()) + ".");
  }
}
