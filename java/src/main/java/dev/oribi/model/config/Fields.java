package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;

/** Typed, checked access to the keys of one configuration object; each error names the place and the key. */
record Fields(ObjectNode node, String where) {
  static Fields of(JsonNode node, String where) {
    if (node instanceof ObjectNode object) {
      return new Fields(object, where);
    }
    throw new OribiException(where + ": expected an object, found " + Json.kind(node) + ".");
  }

  /** Present and not null. */
  boolean has(String key) {
    return node.hasNonNull(key);
  }

  /** Not null, false, zero, or empty: what switches something on. */
  boolean truthy(String key) {
    JsonNode value = node.get(key);
    return value != null && !value.isNull() && !value.equals(node.booleanNode(false)) && !isEmpty(value)
        && !(value.isNumber() && value.doubleValue() == 0);
  }

  private static boolean isEmpty(JsonNode value) {
    return value.isContainerNode() ? value.isEmpty() : value.isTextual() && value.textValue().isEmpty();
  }

  int integer(String key, int min, int max) {
    if (!has(key)) {
      throw new OribiException(where + ": " + key + " is missing.");
    }
    JsonNode value = node.get(key);
    if (!value.isIntegralNumber() || !value.canConvertToInt() || value.intValue() < min || value.intValue() > max) {
      throw new OribiException(where + ": " + key + " must be a whole number from " + min + " to " + max + ", found " + Json.kind(value) + ".");
    }
    return value.intValue();
  }

  int integer(String key, int min, int max, int otherwise) {
    return has(key) ? integer(key, min, max) : otherwise;
  }

  /** A finite number with {@code min <= x <= max}. */
  double number(String key, double min, double max) {
    if (!has(key)) {
      throw new OribiException(where + ": " + key + " is missing.");
    }
    JsonNode value = node.get(key);
    double x = value.isNumber() ? value.doubleValue() : Double.NaN;
    if (!(x >= min && x <= max)) {
      throw new OribiException(where + ": " + key + " must be a number from " + min + " to " + max + ", found " + Json.kind(value) + ".");
    }
    return x;
  }

  double number(String key, double min, double max, double otherwise) {
    return has(key) ? number(key, min, max) : otherwise;
  }

  boolean flag(String key, boolean otherwise) {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isBoolean()) {
      throw new OribiException(where + ": " + key + " must be true or false, found " + Json.kind(node.get(key)) + ".");
    }
    return node.get(key).booleanValue();
  }

  String text(String key, String otherwise) {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isTextual()) {
      throw new OribiException(where + ": " + key + " must be a string, found " + Json.kind(node.get(key)) + ".");
    }
    return node.get(key).textValue();
  }

  /** A list of strings; empty if the key is absent or null. */
  List<String> texts(String key) {
    List<String> texts = new ArrayList<>();
    if (has(key)) {
      JsonNode value = node.get(key);
      boolean strings = value.isArray();
      for (JsonNode item : value) {
        strings &= item.isTextual();
        texts.add(item.asText());
      }
      if (!strings) {
        throw new OribiException(where + ": " + key + " must be a list of strings, found " + Json.kind(value) + ".");
      }
    }
    return List.copyOf(texts);
  }

  /** A token id, if there is one. */
  OptionalInt id(String key) {
    return has(key) ? OptionalInt.of(integer(key, 0, Integer.MAX_VALUE)) : OptionalInt.empty();
  }

  /** A token id, a list of them, or nothing. */
  List<Integer> ids(String key) {
    if (!has(key) || !node.get(key).isArray()) {
      return id(key).stream().boxed().toList();
    }
    List<Integer> ids = new ArrayList<>();
    for (JsonNode item : node.get(key)) {
      if (!item.isIntegralNumber() || !item.canConvertToInt() || item.intValue() < 0) {
        throw new OribiException(where + ": " + key + " must hold token ids, found " + Json.kind(item) + ".");
      }
      ids.add(item.intValue());
    }
    return List.copyOf(ids);
  }

  OribiException refuse(String key, String why) {
    return new OribiException(where + ": " + key + " = " + Json.kind(node.get(key)) + " " + why + ".");
  }
}
