package dev.oribi.text.jinja;

import java.util.List;

/** The variable {@code loop} inside a for; in a recursive one it can be called with the next level's items. */
final class Loop implements HasAttributes, Function {
  private final Statement.For statement;
  private final List<Object> items;
  private final int depth;
  private int index = -1;
  private Object lastChanged = new Undefined("changed");

  Loop(Statement.For statement, List<Object> items, int depth) {
    this.statement = statement;
    this.items = items;
    this.depth = depth;
  }

  Loop next() {
    index++;
    return this;
  }

  @Override
  public Object attribute(String name) {
    int n = items.size();
    return switch (name) {
      case "index" -> index + 1L;
      case "index0" -> (long) index;
      case "revindex" -> (long) n - index;
      case "revindex0" -> n - index - 1L;
      case "first" -> index == 0;
      case "last" -> index == n - 1;
      case "length" -> (long) n;
      case "depth" -> (long) depth;
      case "depth0" -> depth - 1L;
      case "previtem" -> index > 0 ? items.get(index - 1) : new Undefined("previtem");
      case "nextitem" -> index < n - 1 ? items.get(index + 1) : new Undefined("nextitem");
      case "cycle" -> (Function) (frame, arguments) -> cycle(arguments.positional());
      case "changed" -> (Function) (frame, arguments) -> changed(frame, new Tuple(arguments.positional()));
      default -> new Undefined(name);
    };
  }

  private Object cycle(List<Object> values) {
    if (values.isEmpty()) {
      throw new TemplateException("loop.cycle needs values");
    }
    return values.get(index % values.size());
  }

  private boolean changed(Frame frame, Object value) {
    boolean changed = !Operators.equal(frame, lastChanged, value);
    lastChanged = value;
    return changed;
  }

  @Override
  public Object call(Frame frame, Arguments arguments) {
    if (!statement.recursive()) {
      throw new TemplateException("Only a loop marked 'recursive' can be called");
    }
    frame.budget.enter();
    Frame inner = frame.capture();
    statement.run(inner, arguments.require(0, "iterable"), depth + 1);
    frame.budget.leave();
    return inner.out.text.toString();
  }
}
