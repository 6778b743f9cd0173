package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;

/**
 * Typed, checked access to the keys of one configuration object; each error names the place and the key.
 *
 * @param read the keys that were asked for, so that one that matters and that nobody asked for can be refused
 */
public record Fields(ObjectNode node, String where, Set<String> read) {
  public static Fields of(JsonNode node, String where) {
    if (node instanceof ObjectNode object) {
      return new Fields(object, where, new HashSet<>());
    }
    throw new OribiException(where + ": expected an object, found " + Json.kind(node) + ".");
  }

  /** An object without keys: every default holds. */
  static Fields none(String where) {
    return of(Json.object(), where);
  }

  /** Present and not null. */
  public boolean has(String key) {
    read.add(key);
    return node.hasNonNull(key);
  }

  /** Not null, false, zero, or empty: what switches something on. Asking this is not reading it. */
  boolean truthy(String key) {
    JsonNode value = node.get(key);
    return value != null && !value.isNull() && !value.equals(node.booleanNode(false)) && !isEmpty(value)
        && !(value.isNumber() && value.doubleValue() == 0);
  }

  private static boolean isEmpty(JsonNode value) {
    return value.isContainerNode() ? value.isEmpty() : value.isTextual() && value.textValue().isEmpty();
  }

  public int integer(String key, int min, int max) {
    if (!has(key)) {
      throw new OribiException(where + ": " + key + " is missing.");
    }
    JsonNode value = node.get(key);
    if (!value.isIntegralNumber() || !value.canConvertToInt() || value.intValue() < min || value.intValue() > max) {
      throw new OribiException(where + ": " + key + " must be a whole number from " + min + " to " + max + ", found " + Json.kind(value) + ".");
    }
    return value.intValue();
  }

  public int integer(String key, int min, int max, int otherwise) {
    return has(key) ? integer(key, min, max) : otherwise;
  }

  /** A finite number with {@code min <= x <= max}. */
  public double number(String key, double min, double max) {
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

  public double number(String key, double min, double max, double otherwise) {
    return has(key) ? number(key, min, max) : otherwise;
  }

  public boolean flag(String key, boolean otherwise) {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isBoolean()) {
      throw new OribiException(where + ": " + key + " must be true or false, found " + Json.kind(node.get(key)) + ".");
    }
    return node.get(key).booleanValue();
  }

  public String text(String key, String otherwise) {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isTextual()) {
      throw new OribiException(where + ": " + key + " must be a string, found " + Json.kind(node.get(key)) + ".");
    }
    return node.get(key).textValue();
  }

  /** A list of strings; empty if the key is absent or null. */
  public List<String> texts(String key) {
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

  /** A list of whole numbers, none negative; empty if the key is absent or null. */
  public List<Integer> integers(String key) {
    List<Integer> all = new ArrayList<>();
    if (has(key)) {
      for (JsonNode item : node.get(key)) {
        if (!node.get(key).isArray() || !item.isIntegralNumber() || !item.canConvertToInt() || item.intValue() < 0) {
          throw refuse(key, "must be a list of whole numbers");
        }
        all.add(item.intValue());
      }
    }
    return List.copyOf(all);
  }

  /** A list of 0 and 1, or false and true; empty if the key is absent or null. */
  public List<Boolean> switches(String key) {
    List<Boolean> all = new ArrayList<>();
    if (has(key)) {
      for (JsonNode item : node.get(key)) {
        boolean number = item.isIntegralNumber() && (item.longValue() == 0 || item.longValue() == 1);
        if (!node.get(key).isArray() || !item.isBoolean() && !number) {
          throw refuse(key, "must be a list of 0 and 1");
        }
        all.add(item.asBoolean());
      }
    }
    return List.copyOf(all);
  }

  /** A list of numbers from {@code min} to {@code max}. */
  float[] numbers(String key, double min, double max) {
    if (!has(key)) {
      throw new OribiException(where + ": " + key + " is missing.");
    }
    JsonNode value = node.get(key);
    float[] all = new float[value.size()];
    for (int i = 0; i < all.length; i++) {
      double x = value.get(i) != null && value.get(i).isNumber() ? value.get(i).doubleValue() : Double.NaN;
      if (!(x >= min && x <= max)) {
        throw new OribiException(where + ": " + key + " must hold numbers from " + min + " to " + max + ", found "
            + (value.get(i) == null ? Json.kind(value) : Json.kind(value.get(i))) + ".");
      }
      all[i] = (float) x;
    }
    return all;
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

  /** Says that a key's value will not do. */
  public OribiException refuse(String key, String why) {
    return new OribiException(where + ": " + key + " = " + Json.kind(node.get(key)) + " " + why + ".");
  }
}
