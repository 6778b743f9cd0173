package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** The filters that work on lists and other things that can be iterated over. */
final class ListFilters {
  private static final Set<String> NAMES = Set.of("dictsort", "first", "join", "last", "list", "map", "max", "min",
      "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "sum", "unique");

  private ListFilters() {}

  static boolean exists(String name) {
    return NAMES.contains(name);
  }

  static Object apply(Frame frame, String name, Object value, Arguments a) {
    if (!NAMES.contains(name)) {
      throw new TemplateException("There is no filter '" + name + "'");
    }
    List<Object> items = Values.items(value);
    frame.budget.allocateList(items.size());
    return switch (name) {
      case "dictsort" -> dictSort(value, a);
      case "first" -> items.isEmpty() ? new Undefined("first element") : items.get(0);
      case "last" -> items.isEmpty() ? new Undefined("last element") : items.get(items.size() - 1);
      case "join" -> StringMethods.join(frame, Text.str(a.get(0, "d", "")),
          a.has(1, "attribute") ? attributes(items, a.get(1, "attribute", null)) : items);
      case "list" -> items;
      case "map" -> map(frame, items, a);
      case "max" -> extreme(items, a, 1);
      case "min" -> extreme(items, a, -1);
      case "select", "reject" -> choose(frame, items, null, a, name.equals("select"));
      case "selectattr", "rejectattr" -> choose(frame, items, a.require(0, "attribute"), a.rest(1), name.equals("selectattr"));
      case "reverse" -> reverse(value, items);
      case "sort" -> sort(items, a);
      case "sum" -> sum(frame, items, a);
      default -> unique(items, a);
    };
  }

  /** {@code attribute='a.b.0'} or {@code attribute=0}. */
  private static Object attribute(Object item, Object path) {
    if (!(path instanceof String)) {
      return Values.item(item, path);
    }
    Object value = item;
    for (String part : ((String) path).split("\\.", -1)) {
      boolean index = !part.isEmpty() && part.length() < 10 && part.chars().allMatch(c -> c >= '0' && c <= '9');
      value = Values.item(value, index ? (Object) Long.parseLong(part) : part);
    }
    return value;
  }

  private static List<Object> attributes(List<Object> items, Object path) {
    List<Object> values = new ArrayList<>();
    items.forEach(item -> values.add(attribute(item, path)));
    return values;
  }

  private static List<Object> map(Frame frame, List<Object> items, Arguments a) {
    List<Object> values = new ArrayList<>();
    for (Object item : items) {
      frame.budget.step();
      if (a.positional().isEmpty()) {
        Object value = attribute(item, a.require(0, "attribute"));
        values.add(value instanceof Undefined ? a.get(1, "default", value) : value);
      } else {
        values.add(Filters.apply(frame, a.string(0, "name", ""), item, a.rest(1)));
      }
    }
    return values;
  }

  /** Items (or their attribute) that pass the test named first among the arguments, or that are true. */
  private static List<Object> choose(Frame frame, List<Object> items, Object attribute, Arguments a, boolean wanted) {
    List<Object> chosen = new ArrayList<>();
    for (Object item : items) {
      frame.budget.step();
      Object value = attribute == null ? item : attribute(item, attribute);
      boolean passes = a.positional().isEmpty() ? Values.truth(value)
          : Tests.apply(frame, a.string(0, "name", ""), value, a.rest(1));
      if (passes == wanted) {
        chosen.add(item);
      }
    }
    return chosen;
  }

  /** What an item is ordered by: an attribute, several separated by commas, or itself; text without regard to case. */
  private static Object sortKey(Object item, Object attribute, boolean caseSensitive) {
    if (attribute instanceof String s && s.indexOf(',') >= 0) {
      List<Object> keys = new ArrayList<>();
      for (String part : s.split(",")) {
        keys.add(sortKey(item, part, caseSensitive));
      }
      return keys;
    }
    Object value = attribute == null ? item : attribute(item, attribute);
    return value instanceof String s && !caseSensitive ? s.toLowerCase(Locale.ROOT) : value;
  }

  private static List<Object> sort(List<Object> items, Arguments a) {
    boolean caseSensitive = a.truth(1, "case_sensitive", false);
    Object attribute = a.get(2, "attribute", null);
    Comparator<Object> order = (x, y) ->
        Operators.compare(sortKey(x, attribute, caseSensitive), sortKey(y, attribute, caseSensitive));
    items.sort(a.truth(0, "reverse", false) ? order.reversed() : order);
    return items;
  }

  private static List<Object> dictSort(Object value, Arguments a) {
    if (!(value instanceof Map<?, ?> map)) {
      throw new TemplateException("dictsort needs a dict, not a " + Values.typeName(value));
    }
    List<Object> pairs = new ArrayList<>();
    map.forEach((key, element) -> pairs.add(new Tuple(key, element)));
    long by = a.string(1, "by", "key").equals("value") ? 1 : 0;
    boolean caseSensitive = a.truth(0, "case_sensitive", false);
    Comparator<Object> order = (x, y) -> Operators.compare(sortKey(x, by, caseSensitive), sortKey(y, by, caseSensitive));
    pairs.sort(a.truth(2, "reverse", false) ? order.reversed() : order);
    return pairs;
  }

  private static Object extreme(List<Object> items, Arguments a, int sign) {
    boolean caseSensitive = a.truth(0, "case_sensitive", false);
    Object attribute = a.get(1, "attribute", null);
    Object best = new Undefined("element of an empty list");
    Object bestKey = null;
    for (Object item : items) {
      Object key = sortKey(item, attribute, caseSensitive);
      if (best instanceof Undefined || sign * Operators.compare(key, bestKey) > 0) {
        best = item;
        bestKey = key;
      }
    }
    return best;
  }

  private static Object reverse(Object value, List<Object> items) {
    if (value instanceof String s) {
      return new StringBuilder(s).reverse().toString();
    }
    Collections.reverse(items);
    return items;
  }

  private static Object sum(Frame frame, List<Object> items, Arguments a) {
    Object attribute = a.get(0, "attribute", null);
    Object total = a.get(1, "start", 0L);
    for (Object item : items) {
      total = Operators.binary(frame, "+", total, attribute == null ? item : attribute(item, attribute));
    }
    return total;
  }

  private static List<Object> unique(List<Object> items, Arguments a) {
    boolean caseSensitive = a.truth(0, "case_sensitive", false);
    Object attribute = a.get(1, "attribute", null);
    Set<Object> seen = new HashSet<>();
    List<Object> kept = new ArrayList<>();
    for (Object item : items) {
      if (seen.add(Values.key(sortKey(item, attribute, caseSensitive)))) {
        kept.add(item);
      }
    }
    return kept;
  }
}
