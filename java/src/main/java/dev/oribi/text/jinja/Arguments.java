package dev.oribi.text.jinja;

import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The arguments of a call: by place, and by name. */
record Arguments(List<Object> positional, Map<String, Object> named) {
  static final Arguments NONE = new Arguments(List.of(), Map.of());

  static Arguments of(Object... positional) {
    return new Arguments(Arrays.asList(positional), Map.of());
  }

  /** The argument at a place or with a name, or the default. */
  Object get(int place, String name, Object otherwise) {
    Object value = place < positional.size() ? positional.get(place) : named.getOrDefault(name, otherwise);
    return Values.plain(value);
  }

  boolean has(int place, String name) {
    return place < positional.size() || named.containsKey(name);
  }

  Object require(int place, String name) {
    if (!has(place, name)) {
      throw new TemplateException("The argument '" + name + "' is missing");
    }
    return get(place, name, null);
  }

  String string(int place, String name, String otherwise) {
    Object value = get(place, name, otherwise);
    if (value != null && !(value instanceof String)) {
      throw new TemplateException("The argument '" + name + "' must be a string, not " + Values.typeName(value));
    }
    return (String) value;
  }

  int integer(int place, String name, int otherwise) {
    Object value = get(place, name, (long) otherwise);
    return value == null ? otherwise : Values.toIndex(value);
  }

  boolean truth(int place, String name, boolean otherwise) {
    return Values.truth(get(place, name, otherwise));
  }

  /** The arguments after the first {@code n}. */
  Arguments rest(int n) {
    return new Arguments(positional.subList(Math.min(n, positional.size()), positional.size()), named);
  }
}
