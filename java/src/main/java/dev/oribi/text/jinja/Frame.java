package dev.oribi.text.jinja;

import java.util.HashMap;
import java.util.Map;

/** The variables that a statement sees: its own scope, those around it, the globals; and where it prints. */
final class Frame {
  final Budget budget;
  final Output out;
  private final Frame parent;
  private final Map<String, Object> names = new HashMap<>();

  Frame(Budget budget, Output out, Frame parent) {
    this.budget = budget;
    this.out = out;
    this.parent = parent;
  }

  /** A scope inside this one that prints to the same place. */
  Frame child() {
    return new Frame(budget, out, this);
  }

  /** A scope inside this one that prints to a string. */
  Frame capture() {
    return new Frame(budget, new Output(), this);
  }

  Object get(String name) {
    for (Frame frame = this; frame != null; frame = frame.parent) {
      Object value = frame.names.get(name);
      if (value != null || frame.names.containsKey(name)) {
        return value;
      }
    }
    Function global = Globals.find(name);
    return global != null ? global : new Undefined(name);
  }

  void set(String name, Object value) {
    names.put(name, value);
  }

  /** Begins a statement that stands on a line of the template. */
  void at(int line) {
    budget.step();
    budget.line = line;
  }

  void print(String text) {
    budget.allocate(text.length());
    budget.checkSize((long) out.text.length() + text.length());
    out.text.append(text);
  }
}
