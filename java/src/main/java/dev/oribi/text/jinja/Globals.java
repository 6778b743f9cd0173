package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The functions that every template can call. */
final class Globals {
  private static final int MAX_RANGE = 100_000;
  private static final Map<String, Function> ALL = Map.of(
      "range", Globals::range,
      "dict", Globals::dict,
      "namespace", Globals::namespace,
      "raise_exception", Globals::raise,
      "joiner", (frame, arguments) -> joiner(arguments.string(0, "sep", ", ")),
      "cycler", (frame, arguments) -> new Cycler(arguments.positional()));

  private Globals() {}

  static Function find(String name) {
    return ALL.get(name);
  }

  private static Object range(Frame frame, Arguments arguments) {
    int n = arguments.positional().size();
    if (n < 1 || n > 3) {
      throw new TemplateException("range takes one to three integers");
    }
    long begin = n == 1 ? 0 : arguments.integer(0, "start", 0);
    long end = arguments.integer(n == 1 ? 0 : 1, "stop", 0);
    long step = arguments.integer(2, "step", 1);
    if (step == 0) {
      throw new TemplateException("The step of range is 0");
    }
    if ((end - begin) / step > MAX_RANGE) {
      throw new TemplateException("range is longer than " + MAX_RANGE);
    }
    List<Object> values = new ArrayList<>();
    for (long i = begin; step > 0 ? i < end : i > end; i += step) {
      values.add(i);
    }
    frame.budget.allocateList(values.size());
    return values;
  }

  private static Object dict(Frame frame, Arguments arguments) {
    Map<Object, Object> map = new LinkedHashMap<>();
    Object source = arguments.get(0, "", Map.of());
    if (source instanceof Map<?, ?> other) {
      map.putAll(other);
    } else {
      for (Object pair : Values.items(source)) {
        List<Object> items = Values.items(pair);
        if (items.size() != 2) {
          throw new TemplateException("dict needs pairs");
        }
        map.put(Values.key(items.get(0)), items.get(1));
      }
    }
    map.putAll(arguments.named());
    return map;
  }

  private static Object namespace(Frame frame, Arguments arguments) {
    Map<String, Object> values = new LinkedHashMap<>();
    ((Map<?, ?>) dict(frame, arguments)).forEach((key, value) -> values.put(Text.str(key), value));
    return new Namespace(values);
  }

  private static Object raise(Frame frame, Arguments arguments) {
    throw new TemplateException(Text.str(arguments.require(0, "message")));
  }

  /** Empty at its first call, the separator afterwards. */
  private static Object joiner(String separator) {
    boolean[] used = {false};
    return (Function) (frame, arguments) -> {
      String text = used[0] ? separator : "";
      used[0] = true;
      return text;
    };
  }

  private static final class Cycler implements HasAttributes {
    private final List<Object> values;
    private int at;

    Cycler(List<Object> values) {
      if (values.isEmpty()) {
        throw new TemplateException("cycler needs values");
      }
      this.values = List.copyOf(values);
    }

    @Override
    public Object attribute(String name) {
      return switch (name) {
        case "current" -> values.get(at);
        case "next" -> (Function) (frame, arguments) -> {
          Object value = values.get(at);
          at = (at + 1) % values.size();
          return value;
        };
        case "reset" -> (Function) (frame, arguments) -> {
          at = 0;
          return null;
        };
        default -> new Undefined(name);
      };
    }
  }
}
