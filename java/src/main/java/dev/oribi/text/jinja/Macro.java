package dev.oribi.text.jinja;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A macro with the scope that it was defined in. What it prints is the value of the call. */
final class Macro implements Function, HasAttributes {
  private final String name;
  private final Statement.Signature signature;
  private final Statement body;
  private final Frame definition;

  Macro(String name, Statement.Signature signature, Statement body, Frame definition) {
    this.name = name;
    this.signature = signature;
    this.body = body;
    this.definition = definition;
  }

  @Override
  public Object call(Frame frame, Arguments arguments) {
    return call(frame, arguments, new Undefined("caller"));
  }

  Object call(Frame frame, Arguments arguments, Object caller) {
    frame.budget.enter();
    Frame inner = definition.capture();
    inner.set("caller", caller);
    bind(inner, arguments);
    body.run(inner);
    frame.budget.leave();
    return inner.out.text.toString();
  }

  private void bind(Frame inner, Arguments arguments) {
    List<String> names = signature.names();
    Map<String, Object> others = new LinkedHashMap<>(arguments.named());
    for (int i = 0; i < names.size(); i++) {
      String parameter = names.get(i);
      Expression otherwise = signature.defaults().get(i);
      Object value = arguments.has(i, parameter) ? arguments.get(i, parameter, null)
          : otherwise == null ? new Undefined(parameter) : otherwise.evaluate(inner);
      inner.set(parameter, value);
      others.remove(parameter);
    }
    inner.set("varargs", new Tuple(arguments.rest(names.size()).positional()));
    inner.set("kwargs", others);
  }

  @Override
  public Object attribute(String attribute) {
    return switch (attribute) {
      case "name" -> name;
      case "arguments" -> new Tuple(List.copyOf(signature.names()));
      default -> new Undefined(attribute);
    };
  }
}
