package dev.oribi.data;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.text.OneLine;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The keys of one record, with errors that name the record's place. */
record Fields(String source, JsonNode json) {

  /** The row with the keys that were asked for, by Oribi's names; all of them if none were. */
  static Fields of(String source, JsonNode json, Map<String, String> columns) {
    Fields all = new Fields(source, json);
    if (json.has(CsvRecords.BROKEN)) {
      throw new OribiException(source + ": " + json.get(CsvRecords.BROKEN).textValue() + ".");
    }
    if (columns.isEmpty()) {
      return all;
    }
    ObjectNode named = JsonNodeFactory.instance.objectNode();
    columns.forEach((ours, theirs) -> named.set(ours, all.get(theirs)));
    return new Fields(source, named);
  }

  Fields {
    if (!json.isObject()) {
      throw new OribiException(source + ": the row is " + describe(json) + ", but it must be a JSON object.");
    }
  }

  /** Whether the key is there with a value other than null. */
  boolean has(String key) {
    return json.hasNonNull(key);
  }

  boolean isString(String key) {
    return json.path(key).isTextual();
  }

  JsonNode get(String key) {
    if (!json.has(key)) {
      throw new OribiException(source + ": the key '" + key + "' is missing: the row has " + names() + ".");
    }
    return json.get(key);
  }

  String string(String key) {
    return checked(key, get(key).isTextual(), "a string").textValue();
  }

  int[] integers(String key) {
    JsonNode array = checked(key, get(key).isArray(), "a list of integers");
    int[] values = new int[array.size()];
    for (int i = 0; i < values.length; i++) {
      if (!array.get(i).isInt()) {
        throw new OribiException(source + ": element " + i + " of '" + key + "' is " + describe(array.get(i))
            + ", but it must be an integer.");
      }
      values[i] = array.get(i).intValue();
    }
    return values;
  }

  /** A list of objects, at least one. */
  List<Fields> objects(String key) {
    JsonNode array = checked(key, get(key).isArray() && !get(key).isEmpty(), "a list with at least one object");
    List<Fields> objects = new ArrayList<>();
    for (int i = 0; i < array.size(); i++) {
      if (!array.get(i).isObject()) {
        throw new OribiException(source + ": element " + i + " of '" + key + "' is " + describe(array.get(i))
            + ", but it must be an object.");
      }
      objects.add(new Fields(source, array.get(i)));
    }
    return objects;
  }

  private JsonNode checked(String key, boolean right, String wanted) {
    if (!right) {
      throw new OribiException(source + ": '" + key + "' is " + describe(json.get(key)) + ", but it must be " + wanted + ".");
    }
    return json.get(key);
  }

  String names() {
    List<String> names = new ArrayList<>();
    json.fieldNames().forEachRemaining(names::add);
    return names.isEmpty() ? "none" : OneLine.of(String.join(", ", names));
  }

  private static String describe(JsonNode value) {
    return switch (value.getNodeType()) {
      case OBJECT -> "an object";
      case ARRAY -> value.isEmpty() ? "an empty list" : "a list";
      case STRING -> "a string";
      case NUMBER -> "the number " + OneLine.of(value.toString());
      case BOOLEAN -> "the value " + value;
      default -> "null";
    };
  }
}
