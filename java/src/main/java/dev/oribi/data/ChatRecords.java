package dev.oribi.data;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.oribi.OribiException;
import dev.oribi.text.Message;
import dev.oribi.text.OneLine;
import dev.oribi.text.ToolCalls;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Conversations in JSON, checked and in the form that chat templates read. */
final class ChatRecords {
  private static final ObjectMapper MAPPER = RecordReader.mapper();
  private static final Set<String> ROLES = Set.of("system", "developer", "user", "assistant", "tool");
  /** The speakers of ShareGPT and the roles that they have in a chat template. */
  private static final Map<String, String> SHAREGPT_ROLES = Map.ofEntries(Map.entry("system", "system"), Map.entry("human", "user"),
      Map.entry("user", "user"), Map.entry("gpt", "assistant"), Map.entry("chatgpt", "assistant"), Map.entry("bing", "assistant"),
      Map.entry("bard", "assistant"), Map.entry("assistant", "assistant"), Map.entry("function_call", "assistant"),
      Map.entry("observation", "tool"), Map.entry("tool", "tool"));

  private ChatRecords() {}

  /** Messages with role and content, or ShareGPT's turns with from and value: a list, one alone, or either as a string of JSON. */
  static List<Map<String, Object>> messages(Fields fields, String key) {
    List<Map<String, Object>> messages = new ArrayList<>();
    for (Fields message : turns(fields, key)) {
      messages.add(message.has("from") && !message.has("role") ? shareGpt(message) : message(message));
    }
    ToolCalls.parseArguments(messages, fields.source());
    return messages;
  }

  private static List<Fields> turns(Fields fields, String key) {
    JsonNode value = fields.get(key);
    JsonNode list = value.isTextual() && value.textValue().strip().matches("(?s)[\\[{].*") ? parse(fields.source(), "'" + key + "'", value.textValue())
        : value;
    return list.isObject() ? List.of(new Fields(fields.source(), list))
        : new Fields(fields.source(), MAPPER.createObjectNode().set(key, list)).objects(key);
  }

  /** Other keys than these two, such as tool_calls, are passed on. */
  private static Map<String, Object> message(Fields message) {
    String role = message.string("role");
    if (!ROLES.contains(role)) {
      throw unknownRole(message.source(), role, ROLES);
    }
    JsonNode content = message.json().path("content");
    boolean silent = (content.isNull() || content.isMissingNode()) && message.has("tool_calls");
    if (!silent && !content.isArray()) {
      message.string("content");
    }
    return plain(message.json());
  }

  /** A function_call's value is JSON with name and arguments. */
  private static Map<String, Object> shareGpt(Fields turn) {
    String from = turn.string("from");
    String role = SHAREGPT_ROLES.get(from);
    if (role == null) {
      throw unknownRole(turn.source(), from, SHAREGPT_ROLES.keySet());
    }
    Map<String, Object> message = new LinkedHashMap<>(from.equals("function_call") ? functionCall(turn.source(), turn.string("value"))
        : new Message(role, turn.string("value")).toMap());
    if (turn.has("weight")) {
      message.put("weight", MAPPER.convertValue(turn.get("weight"), Object.class));
    }
    return message;
  }

  /** The system message of a row that has one beside its turns. */
  static List<Map<String, Object>> system(Fields fields) {
    return fields.has("system") && !fields.string("system").isEmpty()
        ? List.of(new Message("system", fields.string("system")).toMap()) : List.of();
  }

  /** Alpaca's earlier turns: a list of pairs of a question and its answer. */
  static void addHistory(Fields fields, List<Map<String, Object>> messages) {
    for (JsonNode pair : fields.get("history")) {
      if (!pair.path(0).isTextual() || !pair.path(1).isTextual()) {
        throw new OribiException(fields.source() + ": 'history' must be a list of pairs of strings, a question and its answer.");
      }
      messages.add(new Message("user", pair.get(0).textValue()).toMap());
      messages.add(new Message("assistant", pair.get(1).textValue()).toMap());
    }
  }

  /** Which messages are learned: the assistant's but those with a weight of 0, from a message on, all or the last. */
  static boolean[] learned(List<Map<String, Object>> messages, int from, TrainOn trainOn) {
    boolean[] learned = new boolean[messages.size()];
    boolean open = true;
    for (int i = messages.size() - 1; i >= from && open; i--) {
      Object weight = messages.get(i).get("weight");
      boolean weighted = !(weight instanceof Number number) || number.doubleValue() != 0;
      learned[i] = "assistant".equals(messages.get(i).get("role")) && weighted;
      open = trainOn == TrainOn.ALL || !"assistant".equals(messages.get(i).get("role"));
    }
    return learned;
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
    return new OribiException(source + ": the role '" + OneLine.of(role) + "' is unknown: use one of "
        + String.join(", ", known.stream().sorted().toList()) + ".");
  }
}
