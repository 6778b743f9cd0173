package dev.oribi.text.jinja;

import dev.oribi.text.jinja.Expression.ArgumentList;
import dev.oribi.text.jinja.Statement.Flow;
import dev.oribi.text.jinja.Statement.Target;
import dev.oribi.text.jinja.Token.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Tokens to statements. Expressions inside tags are read by {@link ExpressionParser}. */
final class Parser {
  private static final int MAX_NESTING = 100;
  private static final Statement NOTHING = new Statement.Block(List.of());

  private final Tokens tokens;
  private final ExpressionParser expressions;
  private int nesting;
  private int loops;

  private Parser(List<Token> list) {
    this.tokens = new Tokens(list);
    this.expressions = new ExpressionParser(tokens);
  }

  static Statement parse(List<Token> list) {
    Parser parser = new Parser(list);
    Statement all = parser.body(Set.of());
    Token end = parser.tokens.peek();
    if (end.kind() != Kind.END) {
      throw new TemplateException("Unexpected {% " + parser.tokens.peek(1).text() + " %}", end.line());
    }
    return all;
  }

  /** Statements up to a tag of one of the names, which is left to the caller, or to the end of the template. */
  private Statement body(Set<String> ends) {
    if (++nesting > MAX_NESTING) {
      throw new TemplateException("Blocks are nested more than " + MAX_NESTING + " deep", tokens.peek().line());
    }
    List<Statement> statements = new ArrayList<>();
    while (true) {
      Token token = tokens.peek();
      if (token.kind() == Kind.DATA) {
        statements.add(new Statement.Data(tokens.next().text()));
      } else if (token.kind() == Kind.VARIABLE_BEGIN) {
        tokens.next();
        statements.add(new Statement.Print(expressions.tuple(), token.line()));
        tokens.expect(Kind.VARIABLE_END, "}}");
      } else if (token.kind() == Kind.END || ends.contains(tokens.peek(1).text()) || tokens.peek(1).text().startsWith("end")
          || Set.of("else", "elif").contains(tokens.peek(1).text())) {
        if (token.kind() == Kind.END && !ends.isEmpty()) {
          throw new TemplateException("The template ends where one of " + ends + " should come", token.line());
        }
        nesting--;
        return new Statement.Block(List.copyOf(statements));
      } else {
        tokens.next();
        statements.add(statement(tokens.expect(Kind.NAME, null)));
      }
    }
  }

  private Statement statement(Token tag) {
    return switch (tag.text()) {
      case "if" -> ifStatement(tag.line());
      case "for" -> forStatement(tag.line());
      case "set" -> set(tag.line());
      case "macro" -> macro();
      case "call" -> callBlock(tag.line());
      case "filter" -> filterBlock(tag.line());
      case "with" -> with(tag.line());
      case "generation" -> new Statement.Generation(block("endgeneration"));
      case "break" -> jump(Flow.BREAK, tag);
      case "continue" -> jump(Flow.CONTINUE, tag);
      default -> throw new TemplateException("There is no tag '" + tag.text() + "'", tag.line());
    };
  }

  /** The end of the opening tag, the body, and the closing tag. */
  private Statement block(String end) {
    closeTag();
    Statement body = body(Set.of(end));
    endTag(end);
    return body;
  }

  private void closeTag() {
    tokens.expect(Kind.BLOCK_END, "%}");
  }

  private void endTag(String name) {
    tokens.expect(Kind.BLOCK_BEGIN, "{%");
    tokens.expect(Kind.NAME, name);
    if (name.equals("endmacro") && tokens.peek().kind() == Kind.NAME) {
      tokens.next();
    }
    closeTag();
  }

  private Statement ifStatement(int line) {
    Expression condition = expressions.tupleWithoutCondition();
    closeTag();
    Statement then = body(Set.of("elif", "else", "endif"));
    Token next = tokens.peek(1);
    Statement otherwise = NOTHING;
    if (next.text().equals("elif")) {
      tokens.expect(Kind.BLOCK_BEGIN, "{%");
      tokens.next();
      // The elif is an if of its own in the else branch, and reads the one endif.
      if (++nesting > 10 * MAX_NESTING) {
        throw new TemplateException("An if has too many elif", next.line());
      }
      otherwise = ifStatement(next.line());
      nesting--;
    } else {
      if (next.text().equals("else")) {
        otherwise = elseBranch("endif");
      }
      endTag("endif");
    }
    return new Statement.If(condition, then, otherwise, line);
  }

  private Statement elseBranch(String end) {
    tokens.expect(Kind.BLOCK_BEGIN, "{%");
    tokens.expect(Kind.NAME, "else");
    closeTag();
    return body(Set.of(end));
  }

  private Statement forStatement(int line) {
    Target target = target(false);
    tokens.expect(Kind.NAME, "in");
    Expression items = expressions.tupleWithoutCondition();
    Expression condition = tokens.take(Kind.NAME, "if") ? expressions.expression() : null;
    boolean recursive = tokens.take(Kind.NAME, "recursive");
    closeTag();
    loops++;
    Statement body = body(Set.of("else", "endfor"));
    loops--;
    Statement otherwise = tokens.peek(1).text().equals("else") ? elseBranch("endfor") : NOTHING;
    endTag("endfor");
    return new Statement.For(target, items, condition, recursive, body, otherwise, line);
  }

  /** {@code a}, {@code a, b}, {@code (a, b), c}, and in a set {@code namespace.a}. */
  private Target target(boolean attributes) {
    List<Target> targets = new ArrayList<>();
    boolean tuple = false;
    do {
      if (tokens.take(Kind.OPERATOR, "(")) {
        targets.add(target(attributes));
        tokens.expect(Kind.OPERATOR, ")");
      } else {
        String name = tokens.expect(Kind.NAME, null).text();
        targets.add(attributes && tokens.take(Kind.OPERATOR, ".")
            ? new Statement.AttributeTarget(name, tokens.expect(Kind.NAME, null).text()) : new Statement.NameTarget(name));
      }
      tuple |= tokens.peek().is(Kind.OPERATOR, ",");
    } while (tokens.take(Kind.OPERATOR, ",") && (tokens.peek().kind() == Kind.NAME || tokens.peek().is(Kind.OPERATOR, "(")));
    return tuple ? new Statement.TupleTarget(List.copyOf(targets)) : targets.get(0);
  }

  private Statement set(int line) {
    Target target = target(true);
    if (tokens.take(Kind.OPERATOR, "=")) {
      Expression value = expressions.tuple();
      closeTag();
      return new Statement.Set(target, value, line);
    }
    List<Expression.Filter> filters = expressions.filterNames();
    return new Statement.Set(target, filtered(block("endset"), filters), line);
  }

  /** The text of a body, through filters. */
  private static Expression filtered(Statement body, List<Expression.Filter> filters) {
    Expression value = new Expression.Captured(body);
    for (Expression.Filter filter : filters) {
      value = new Expression.Filter(value, filter.name(), filter.arguments());
    }
    return value;
  }

  private Statement filterBlock(int line) {
    List<Expression.Filter> filters = expressions.filterNamesWithoutBar();
    return new Statement.Print(filtered(block("endfilter"), filters), line);
  }

  private Statement with(int line) {
    List<Statement.Set> names = new ArrayList<>();
    while (tokens.peek().kind() == Kind.NAME) {
      Target target = new Statement.NameTarget(tokens.next().text());
      tokens.expect(Kind.OPERATOR, "=");
      names.add(new Statement.Set(target, expressions.expression(), line));
      tokens.take(Kind.OPERATOR, ",");
    }
    return new Statement.With(List.copyOf(names), block("endwith"));
  }

  private Statement macro() {
    String name = tokens.expect(Kind.NAME, null).text();
    Statement.Signature signature = signature();
    return new Statement.DefineMacro(name, signature, outsideLoops("endmacro"));
  }

  /** A break inside a macro cannot leave the loop around the macro's definition. */
  private Statement outsideLoops(String end) {
    int around = loops;
    loops = 0;
    Statement body = block(end);
    loops = around;
    return body;
  }

  private Statement.Signature signature() {
    List<String> names = new ArrayList<>();
    List<Expression> defaults = new ArrayList<>();
    tokens.expect(Kind.OPERATOR, "(");
    while (!tokens.take(Kind.OPERATOR, ")")) {
      if (!names.isEmpty()) {
        tokens.expect(Kind.OPERATOR, ",");
      }
      names.add(tokens.expect(Kind.NAME, null).text());
      defaults.add(tokens.take(Kind.OPERATOR, "=") ? expressions.expression() : null);
    }
    return new Statement.Signature(names, defaults);
  }

  private Statement callBlock(int line) {
    Statement.Signature signature = tokens.peek().is(Kind.OPERATOR, "(") ? signature()
        : new Statement.Signature(List.of(), List.of());
    if (!(expressions.expression() instanceof Expression.Call call)) {
      throw new TemplateException("A call block needs a macro to call", line);
    }
    return new Statement.CallBlock(signature, call, outsideLoops("endcall"), line);
  }

  private Statement jump(Flow flow, Token tag) {
    if (loops == 0) {
      throw new TemplateException("'" + tag.text() + "' stands outside a loop", tag.line());
    }
    closeTag();
    return new Statement.Jump(flow);
  }

  /** What {@code {% call %}} and filters without arguments pass on. */
  static final ArgumentList NO_ARGUMENTS = new ArgumentList(List.of(), Map.of(), null, null);
}
