package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What has a value. Each kind evaluates itself in a frame of variables. */
sealed interface Expression {

  Object evaluate(Frame frame);

  record Constant(Object value) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return value;
    }
  }

  record Name(String name) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return frame.get(name);
    }
  }

  record ListLiteral(List<Expression> items, boolean tuple) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      List<Object> values = new ArrayList<>();
      items.forEach(item -> values.add(item.evaluate(frame)));
      return tuple ? new Tuple(values) : values;
    }
  }

  record DictLiteral(List<Expression> keys, List<Expression> values) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      Map<Object, Object> map = new LinkedHashMap<>();
      for (int i = 0; i < keys.size(); i++) {
        map.put(Values.key(keys.get(i).evaluate(frame)), values.get(i).evaluate(frame));
      }
      return map;
    }
  }

  record Negate(Expression operand) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return Operators.negate(operand.evaluate(frame));
    }
  }

  record Not(Expression operand) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return !Values.truth(operand.evaluate(frame));
    }
  }

  /** {@code and}, {@code or}: the operand that decides, as in Python, not just true or false. */
  record Logic(boolean and, Expression left, Expression right) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      Object value = left.evaluate(frame);
      return Values.truth(value) == and ? right.evaluate(frame) : value;
    }
  }

  record Binary(String operator, Expression left, Expression right) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      return Operators.binary(frame, operator, left.evaluate(frame), right.evaluate(frame));
    }
  }

  /** {@code a ~ b}: both as text. */
  record Concat(Expression left, Expression right) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return Operators.binary(frame, "+", Text.str(left.evaluate(frame)), Text.str(right.evaluate(frame)));
    }
  }

  /** {@code a < b <= c}: each neighbouring pair, each operand once. */
  record Compare(Expression first, List<String> operators, List<Expression> others) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      Object left = first.evaluate(frame);
      for (int i = 0; i < operators.size(); i++) {
        Object right = others.get(i).evaluate(frame);
        if (!Operators.compare(frame, operators.get(i), left, right)) {
          return false;
        }
        left = right;
      }
      return true;
    }
  }

  /** {@code a if condition else b}; without else an undefined value. */
  record Conditional(Expression condition, Expression then, Expression otherwise) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      return Values.truth(condition.evaluate(frame)) ? then.evaluate(frame) : otherwise.evaluate(frame);
    }
  }

  record Attribute(Expression object, String name) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      return Values.attribute(object.evaluate(frame), name);
    }
  }

  record Item(Expression object, Expression index) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      return Values.item(object.evaluate(frame), index.evaluate(frame));
    }
  }

  /** {@code a[begin:end:step]}; a missing part is null. */
  record Slice(Expression object, Expression begin, Expression end, Expression step) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      Object value = Values.plain(object.evaluate(frame));
      if (!(value instanceof String || value instanceof List)) {
        Operators.rejectUndefined(value);
        throw new TemplateException("A " + Values.typeName(value) + " cannot be sliced");
      }
      List<Object> items = Values.items(value);
      frame.budget.allocate(items.size());
      List<Object> part = slice(items, index(begin, frame), index(end, frame), index(step, frame));
      if (value instanceof String) {
        StringBuilder text = new StringBuilder();
        part.forEach(text::append);
        return text.toString();
      }
      return value instanceof Tuple ? new Tuple(part) : part;
    }

    private static Integer index(Expression e, Frame frame) {
      Object value = e == null ? null : e.evaluate(frame);
      return value == null ? null : (Integer) Values.toIndex(value);
    }

    private static List<Object> slice(List<Object> items, Integer begin, Integer end, Integer stepOrNull) {
      int step = stepOrNull == null ? 1 : stepOrNull;
      if (step == 0) {
        throw new TemplateException("The step of a slice is 0");
      }
      int n = items.size();
      int low = step > 0 ? 0 : -1;
      int high = step > 0 ? n : n - 1;
      int first = begin == null ? (step > 0 ? low : high) : bound(begin, n, low, high);
      int last = end == null ? (step > 0 ? high : low) : bound(end, n, low, high);
      List<Object> part = new ArrayList<>();
      for (long i = first; step > 0 ? i < last : i > last; i += step) {
        part.add(items.get((int) i));
      }
      return part;
    }

    private static int bound(int i, int n, int low, int high) {
      return Math.max(low, Math.min(high, i < 0 ? Math.max(i + n, low) : i));
    }
  }

  /**
   * The arguments as written: {@code (a, *more, name=b, **others)}.
   *
   * @param spread list of further arguments, or null
   * @param spreadNamed mapping of further named arguments, or null
   */
  record ArgumentList(List<Expression> positional, Map<String, Expression> named, Expression spread, Expression spreadNamed) {
    Arguments evaluate(Frame frame) {
      List<Object> places = new ArrayList<>();
      positional.forEach(e -> places.add(e.evaluate(frame)));
      if (spread != null) {
        places.addAll(Values.items(spread.evaluate(frame)));
      }
      Map<String, Object> names = new LinkedHashMap<>();
      named.forEach((name, e) -> names.put(name, e.evaluate(frame)));
      if (spreadNamed != null) {
        if (!(spreadNamed.evaluate(frame) instanceof Map<?, ?> map)) {
          throw new TemplateException("What follows ** must be a dict");
        }
        map.forEach((name, value) -> names.put(Text.str(name), value));
      }
      return new Arguments(places, names);
    }
  }

  record Call(Expression callee, ArgumentList arguments) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      Object function = callee.evaluate(frame);
      if (function instanceof Function f) {
        return f.call(frame, arguments.evaluate(frame));
      }
      Operators.rejectUndefined(function);
      throw new TemplateException("A " + Values.typeName(function) + " cannot be called");
    }
  }

  record Filter(Expression operand, String name, ArgumentList arguments) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      return Filters.apply(frame, name, operand.evaluate(frame), arguments.evaluate(frame));
    }
  }

  record Test(Expression operand, String name, ArgumentList arguments) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      frame.budget.step();
      return Tests.apply(frame, name, operand.evaluate(frame), arguments.evaluate(frame));
    }
  }

  /** The text that a block printed, as the operand of the filters behind {@code {% set x | upper %}}. */
  record Captured(Statement body) implements Expression {
    @Override
    public Object evaluate(Frame frame) {
      Frame inner = frame.capture();
      body.run(inner);
      return inner.out.text.toString();
    }
  }
}
