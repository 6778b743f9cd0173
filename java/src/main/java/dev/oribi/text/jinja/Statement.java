package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.List;

/** What prints, sets variables, or decides which statements do. */
sealed interface Statement {

  /** What the loop around a statement does next. */
  enum Flow { GO_ON, BREAK, CONTINUE }

  Flow run(Frame frame);

  record Block(List<Statement> statements) implements Statement {
    @Override
    public Flow run(Frame frame) {
      for (Statement statement : statements) {
        Flow flow = statement.run(frame);
        if (flow != Flow.GO_ON) {
          return flow;
        }
      }
      return Flow.GO_ON;
    }
  }

  record Data(String text) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.print(text);
      return Flow.GO_ON;
    }
  }

  record Print(Expression value, int line) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.at(line);
      frame.print(Text.str(value.evaluate(frame)));
      return Flow.GO_ON;
    }
  }

  record If(Expression condition, Statement then, Statement otherwise, int line) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.at(line);
      return (Values.truth(condition.evaluate(frame)) ? then : otherwise).run(frame);
    }
  }

  /** Where a value goes: a name, several names, or an attribute of a namespace. */
  sealed interface Target {
    void assign(Frame frame, Object value);
  }

  record NameTarget(String name) implements Target {
    @Override
    public void assign(Frame frame, Object value) {
      frame.set(name, value);
    }
  }

  record AttributeTarget(String object, String attribute) implements Target {
    @Override
    public void assign(Frame frame, Object value) {
      if (!(frame.get(object) instanceof Namespace namespace)) {
        throw new TemplateException("'" + object + "' is not a namespace, so its attribute '" + attribute + "' cannot be set");
      }
      namespace.set(attribute, value);
    }
  }

  record TupleTarget(List<Target> targets) implements Target {
    @Override
    public void assign(Frame frame, Object value) {
      List<Object> items = Values.items(value);
      if (items.size() != targets.size()) {
        throw new TemplateException(items.size() + " values cannot be assigned to " + targets.size() + " names");
      }
      for (int i = 0; i < items.size(); i++) {
        targets.get(i).assign(frame, items.get(i));
      }
    }
  }

  record Set(Target target, Expression value, int line) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.at(line);
      target.assign(frame, value.evaluate(frame));
      return Flow.GO_ON;
    }
  }

  /** {@code {% with a = b %}}: names for the body alone. */
  record With(List<Set> names, Statement body) implements Statement {
    @Override
    public Flow run(Frame frame) {
      Frame inner = frame.child();
      // All values are of the scope outside: with a=1, b=a does not see the new a.
      List<Object> values = new ArrayList<>();
      names.forEach(set -> values.add(set.value().evaluate(frame)));
      for (int i = 0; i < values.size(); i++) {
        names.get(i).target().assign(inner, values.get(i));
      }
      return body.run(inner);
    }
  }

  record For(Target target, Expression items, Expression condition, boolean recursive, Statement body, Statement otherwise, int line)
      implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.at(line);
      return run(frame, items.evaluate(frame), 1);
    }

    Flow run(Frame frame, Object values, int depth) {
      List<Object> chosen = choose(frame, Values.items(values));
      if (chosen.isEmpty()) {
        return otherwise.run(frame.child());
      }
      Loop loop = new Loop(this, chosen, depth);
      for (Object item : chosen) {
        frame.budget.step();
        Frame inner = frame.child();
        inner.set("loop", loop.next());
        target.assign(inner, item);
        if (body.run(inner) == Flow.BREAK) {
          break;
        }
      }
      return Flow.GO_ON;
    }

    private List<Object> choose(Frame frame, List<Object> all) {
      frame.budget.allocateList(all.size());
      if (condition == null) {
        return all;
      }
      List<Object> chosen = new ArrayList<>();
      for (Object item : all) {
        frame.budget.step();
        Frame inner = frame.child();
        target.assign(inner, item);
        if (Values.truth(condition.evaluate(inner))) {
          chosen.add(item);
        }
      }
      return chosen;
    }
  }

  record Jump(Flow flow) implements Statement {
    @Override
    public Flow run(Frame frame) {
      return flow;
    }
  }

  record DefineMacro(String name, Signature signature, Statement body) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.set(name, new Macro(name, signature, body, frame));
      return Flow.GO_ON;
    }
  }

  /** Parameters of a macro; a parameter without a default has null there. */
  record Signature(List<String> names, List<Expression> defaults) {}

  /** {@code {% call macro(...) %}body{% endcall %}}: the macro prints the body by calling {@code caller()}. */
  record CallBlock(Signature signature, Expression.Call call, Statement body, int line) implements Statement {
    @Override
    public Flow run(Frame frame) {
      frame.at(line);
      Arguments arguments = call.arguments().evaluate(frame);
      if (!(call.callee().evaluate(frame) instanceof Macro macro)) {
        throw new TemplateException("A call block needs a macro to call");
      }
      frame.print(Text.str(macro.call(frame, arguments, new Macro("caller", signature, body, frame))));
      return Flow.GO_ON;
    }
  }

  /** {@code {% generation %}}: marks what the assistant says, for the mask of training. */
  record Generation(Statement body) implements Statement {
    @Override
    public Flow run(Frame frame) {
      int begin = frame.out.text.length();
      Flow flow = body.run(frame.child());
      frame.out.generation.add(new int[] {begin, frame.out.text.length()});
      return flow;
    }
  }
}
