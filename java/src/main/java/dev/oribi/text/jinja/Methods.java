package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** The methods that Python's dicts, lists and tuples have; those of strings are in {@link StringMethods}. */
final class Methods {
  private Methods() {}

  /** The method bound to its object, or null. */
  @SuppressWarnings("unchecked")
  static Function find(Object object, String name) {
    if (object instanceof String s) {
      return StringMethods.find(s, name);
    } else if (object instanceof Map<?, ?> map) {
      return ofMap((Map<Object, Object>) map, name);
    } else if (object instanceof Tuple tuple) {
      return ofSequence(tuple, name);
    } else if (object instanceof List<?> list) {
      Function method = ofList((List<Object>) list, name);
      return method != null ? method : ofSequence(list, name);
    }
    return null;
  }

  private static Function ofMap(Map<Object, Object> map, String name) {
    return switch (name) {
      case "items" -> (frame, arguments) -> pairs(frame, map);
      case "keys" -> (frame, arguments) -> Values.items(map);
      case "values" -> (frame, arguments) -> new ArrayList<>(map.values());
      case "get" -> (frame, arguments) -> {
        Object key = arguments.require(0, "key");
        Object otherwise = arguments.get(1, "default", null);
        return key instanceof Undefined ? otherwise : map.getOrDefault(Values.key(key), otherwise);
      };
      case "copy" -> (frame, arguments) -> Globals.find("dict").call(frame, Arguments.of(map));
      case "update" -> (frame, arguments) -> {
        map.putAll((Map<?, ?>) Globals.find("dict").call(frame, arguments));
        return null;
      };
      case "setdefault" -> (frame, arguments) -> {
        Object key = Values.key(arguments.require(0, "key"));
        if (!map.containsKey(key)) {
          map.put(key, arguments.get(1, "default", null));
        }
        return map.get(key);
      };
      case "pop" -> (frame, arguments) -> {
        Object key = Values.key(arguments.require(0, "key"));
        if (!map.containsKey(key) && !arguments.has(1, "default")) {
          throw new TemplateException("The dict has no key " + Text.repr(key));
        }
        return map.containsKey(key) ? map.remove(key) : arguments.get(1, "default", null);
      };
      default -> null;
    };
  }

  static List<Object> pairs(Frame frame, Map<?, ?> map) {
    frame.budget.allocateList(map.size());
    List<Object> pairs = new ArrayList<>();
    map.forEach((key, value) -> pairs.add(new Tuple(key, value)));
    return pairs;
  }

  private static Function ofList(List<Object> list, String name) {
    return switch (name) {
      case "append" -> (frame, arguments) -> {
        list.add(arguments.require(0, "object"));
        return null;
      };
      case "extend" -> (frame, arguments) -> {
        List<Object> more = Values.items(arguments.require(0, "iterable"));
        frame.budget.allocateList((long) list.size() + more.size());
        list.addAll(more);
        return null;
      };
      case "insert" -> (frame, arguments) -> {
        int i = Values.toIndex(arguments.require(0, "index"));
        int place = i < 0 ? i + list.size() : i;
        list.add(Math.max(0, Math.min(place, list.size())), arguments.require(1, "object"));
        return null;
      };
      case "pop" -> (frame, arguments) -> {
        int i = arguments.integer(0, "index", -1);
        int place = i < 0 ? i + list.size() : i;
        if (place < 0 || place >= list.size()) {
          throw new TemplateException("The list has no element " + i);
        }
        return list.remove(place);
      };
      case "reverse" -> (frame, arguments) -> {
        Collections.reverse(list);
        return null;
      };
      case "copy" -> (frame, arguments) -> Values.items(list);
      default -> null;
    };
  }

  private static Function ofSequence(List<?> list, String name) {
    return switch (name) {
      case "count" -> (frame, arguments) ->
          list.stream().filter(item -> Operators.equal(frame, item, arguments.require(0, "value"))).count();
      case "index" -> (frame, arguments) -> {
        for (int i = 0; i < list.size(); i++) {
          if (Operators.equal(frame, list.get(i), arguments.require(0, "value"))) {
            return (long) i;
          }
        }
        throw new TemplateException("The list does not hold " + Text.repr(arguments.require(0, "value")));
      };
      default -> null;
    };
  }
}
