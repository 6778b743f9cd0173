package dev.oribi.text.jinja;

import dev.oribi.text.jinja.Expression.ArgumentList;
import dev.oribi.text.jinja.Token.Kind;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** Recursive descent through Jinja2's levels of binding, loosest first; one method a level. */
final class ExpressionParser {
  private static final int MAX_NESTING = 200;
  private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");
  /** Names that cannot be the argument of a test: {@code x is defined and y}. */
  private static final Set<String> NOT_AN_ARGUMENT = Set.of("and", "or", "else", "if", "is", "recursive");

  private final Tokens tokens;
  private int nesting;

  ExpressionParser(Tokens tokens) {
    this.tokens = tokens;
  }

  /** One expression, or several with commas between: a tuple. */
  Expression tuple() {
    return tuple(true);
  }

  /** Where an {@code if} belongs to the tag, as in {@code for x in y if z}. */
  Expression tupleWithoutCondition() {
    return tuple(false);
  }

  private Expression tuple(boolean withCondition) {
    Expression first = withCondition ? expression() : or();
    if (!isOperator(",")) {
      return first;
    }
    List<Expression> items = new ArrayList<>(List.of(first));
    while (tokens.take(Kind.OPERATOR, ",") && !endsTuple()) {
      items.add(withCondition ? expression() : or());
    }
    return new Expression.ListLiteral(List.copyOf(items), true);
  }

  private boolean endsTuple() {
    Kind kind = tokens.peek().kind();
    return kind == Kind.VARIABLE_END || kind == Kind.BLOCK_END || isOperator(")");
  }

  Expression expression() {
    if (++nesting > MAX_NESTING) {
      throw new TemplateException("An expression is nested more than " + MAX_NESTING + " deep", tokens.peek().line());
    }
    Expression value = or();
    while (tokens.take(Kind.NAME, "if")) {
      Expression condition = or();
      Expression otherwise = tokens.take(Kind.NAME, "else") ? expression()
          : new Expression.Constant(new Undefined("the value of an if without else"));
      value = new Expression.Conditional(condition, value, otherwise);
    }
    nesting--;
    return value;
  }

  private Expression or() {
    Expression left = and();
    while (tokens.take(Kind.NAME, "or")) {
      left = new Expression.Logic(false, left, and());
    }
    return left;
  }

  private Expression and() {
    Expression left = not();
    while (tokens.take(Kind.NAME, "and")) {
      left = new Expression.Logic(true, left, not());
    }
    return left;
  }

  private Expression not() {
    boolean negated = false;
    while (tokens.take(Kind.NAME, "not")) {
      negated = !negated;
      if (!negated) {
        return new Expression.Not(new Expression.Not(not()));
      }
    }
    return negated ? new Expression.Not(comparison()) : comparison();
  }

  private Expression comparison() {
    Expression first = sum();
    List<String> operators = new ArrayList<>();
    List<Expression> others = new ArrayList<>();
    while (true) {
      Token token = tokens.peek();
      if (token.kind() == Kind.OPERATOR && COMPARISONS.contains(token.text())) {
        operators.add(tokens.next().text());
      } else if (tokens.take(Kind.NAME, "in")) {
        operators.add("in");
      } else if (token.is(Kind.NAME, "not") && tokens.peek(1).is(Kind.NAME, "in")) {
        tokens.next();
        tokens.next();
        operators.add("not in");
      } else {
        return operators.isEmpty() ? first : new Expression.Compare(first, operators, others);
      }
      others.add(sum());
    }
  }

  private Expression sum() {
    Expression left = concat();
    while (isOperator("+") || isOperator("-")) {
      left = new Expression.Binary(tokens.next().text(), left, concat());
    }
    return left;
  }

  private Expression concat() {
    Expression left = product();
    while (tokens.take(Kind.OPERATOR, "~")) {
      left = new Expression.Concat(left, product());
    }
    return left;
  }

  private Expression product() {
    Expression left = power();
    while (isOperator("*") || isOperator("/") || isOperator("//") || isOperator("%")) {
      left = new Expression.Binary(tokens.next().text(), left, power());
    }
    return left;
  }

  private Expression power() {
    Expression left = unary(true);
    while (tokens.take(Kind.OPERATOR, "**")) {
      left = new Expression.Binary("**", left, unary(true));
    }
    return left;
  }

  private Expression unary(boolean withFilters) {
    if (++nesting > MAX_NESTING) {
      throw new TemplateException("An expression is nested more than " + MAX_NESTING + " deep", tokens.peek().line());
    }
    Expression value;
    if (tokens.take(Kind.OPERATOR, "-")) {
      value = new Expression.Negate(unary(false));
    } else if (tokens.take(Kind.OPERATOR, "+")) {
      value = unary(false);
    } else {
      value = postfix(primary());
    }
    nesting--;
    return withFilters ? filtersAndTests(value) : value;
  }

  private Expression primary() {
    Token token = tokens.next();
    switch (token.kind()) {
      case NAME:
        return name(token);
      case STRING:
        return string(token);
      case INTEGER:
        return new Expression.Constant(integer(token));
      case FLOAT:
        return new Expression.Constant(Double.parseDouble(token.text()));
      default:
        if (token.is(Kind.OPERATOR, "(")) {
          return parenthesis();
        } else if (token.is(Kind.OPERATOR, "[")) {
          return new Expression.ListLiteral(listUntil("]"), false);
        } else if (token.is(Kind.OPERATOR, "{")) {
          return dict();
        }
        throw new TemplateException("Unexpected " + token, token.line());
    }
  }

  private static Expression name(Token token) {
    return switch (token.text()) {
      case "true", "True" -> new Expression.Constant(true);
      case "false", "False" -> new Expression.Constant(false);
      case "none", "None" -> new Expression.Constant(null);
      default -> new Expression.Name(token.text());
    };
  }

  /** Strings that stand side by side are one. */
  private Expression string(Token first) {
    StringBuilder text = new StringBuilder(first.text());
    while (tokens.peek().kind() == Kind.STRING) {
      text.append(tokens.next().text());
    }
    return new Expression.Constant(text.toString());
  }

  private static Long integer(Token token) {
    String text = token.text().toLowerCase(Locale.ROOT);
    int base = text.startsWith("0x") ? 16 : text.startsWith("0o") ? 8 : text.startsWith("0b") ? 2 : 10;
    try {
      return Long.parseLong(base == 10 ? text : text.substring(2), base);
    } catch (NumberFormatException e) {
      throw new TemplateException("The integer " + text + " is larger than 64 bits", token.line());
    }
  }

  private Expression parenthesis() {
    if (tokens.take(Kind.OPERATOR, ")")) {
      return new Expression.ListLiteral(List.of(), true);
    }
    Expression inner = tuple();
    tokens.expect(Kind.OPERATOR, ")");
    return inner;
  }

  private List<Expression> listUntil(String end) {
    List<Expression> items = new ArrayList<>();
    while (!tokens.take(Kind.OPERATOR, end)) {
      items.add(expression());
      if (!isOperator(end)) {
        tokens.expect(Kind.OPERATOR, ",");
      }
    }
    return items;
  }

  private Expression dict() {
    List<Expression> keys = new ArrayList<>();
    List<Expression> values = new ArrayList<>();
    while (!tokens.take(Kind.OPERATOR, "}")) {
      keys.add(expression());
      tokens.expect(Kind.OPERATOR, ":");
      values.add(expression());
      if (!isOperator("}")) {
        tokens.expect(Kind.OPERATOR, ",");
      }
    }
    return new Expression.DictLiteral(keys, values);
  }

  private Expression postfix(Expression operand) {
    Expression value = operand;
    for (int length = 0; ; length++) {
      if (length > MAX_NESTING) {
        throw new TemplateException("An expression has more than " + MAX_NESTING + " parts", tokens.peek().line());
      }
      if (tokens.take(Kind.OPERATOR, ".")) {
        Token name = tokens.next();
        if (name.kind() != Kind.NAME && name.kind() != Kind.INTEGER) {
          throw new TemplateException("Expected a name after the dot but found " + name, name.line());
        }
        value = name.kind() == Kind.NAME ? new Expression.Attribute(value, name.text())
            : new Expression.Item(value, new Expression.Constant(integer(name)));
      } else if (tokens.take(Kind.OPERATOR, "[")) {
        value = subscript(value);
      } else if (isOperator("(")) {
        value = new Expression.Call(value, arguments());
      } else {
        return value;
      }
    }
  }

  private Expression subscript(Expression object) {
    if (tokens.take(Kind.OPERATOR, "]")) {
      return new Expression.Item(object, new Expression.ListLiteral(List.of(), true));
    }
    Expression begin = isOperator(":") ? null : expression();
    if (!tokens.take(Kind.OPERATOR, ":")) {
      List<Expression> several = new ArrayList<>(List.of(begin));
      while (tokens.take(Kind.OPERATOR, ",")) {
        several.add(expression());
      }
      tokens.expect(Kind.OPERATOR, "]");
      return new Expression.Item(object, several.size() == 1 ? begin : new Expression.ListLiteral(several, true));
    }
    Expression end = isOperator(":") || isOperator("]") ? null : expression();
    Expression step = tokens.take(Kind.OPERATOR, ":") && !isOperator("]") ? expression() : null;
    tokens.expect(Kind.OPERATOR, "]");
    return new Expression.Slice(object, begin, end, step);
  }

  private ArgumentList arguments() {
    List<Expression> positional = new ArrayList<>();
    Map<String, Expression> named = new LinkedHashMap<>();
    Expression spread = null;
    Expression spreadNamed = null;
    tokens.expect(Kind.OPERATOR, "(");
    while (!tokens.take(Kind.OPERATOR, ")")) {
      if (tokens.take(Kind.OPERATOR, "*")) {
        spread = expression();
      } else if (tokens.take(Kind.OPERATOR, "**")) {
        spreadNamed = expression();
      } else if (tokens.peek().kind() == Kind.NAME && tokens.peek(1).is(Kind.OPERATOR, "=")) {
        String name = tokens.next().text();
        tokens.next();
        named.put(name, expression());
      } else if (named.isEmpty() && spread == null && spreadNamed == null) {
        positional.add(expression());
      } else {
        throw new TemplateException("An argument without a name follows one with a name", tokens.peek().line());
      }
      if (!isOperator(")")) {
        tokens.expect(Kind.OPERATOR, ",");
      }
    }
    return new ArgumentList(positional, named, spread, spreadNamed);
  }

  private Expression filtersAndTests(Expression operand) {
    Expression value = operand;
    for (int length = 0; ; length++) {
      if (length > MAX_NESTING) {
        throw new TemplateException("An expression has more than " + MAX_NESTING + " filters", tokens.peek().line());
      }
      if (isOperator("|")) {
        tokens.next();
        value = filter(value);
      } else if (tokens.take(Kind.NAME, "is")) {
        value = test(value);
      } else if (isOperator("(")) {
        value = new Expression.Call(value, arguments());
      } else {
        return value;
      }
    }
  }

  private Expression.Filter filter(Expression operand) {
    Token name = tokens.expect(Kind.NAME, null);
    if (!Filters.exists(name.text())) {
      throw new TemplateException("There is no filter '" + name.text() + "'", name.line());
    }
    return new Expression.Filter(operand, name.text(), isOperator("(") ? arguments() : Parser.NO_ARGUMENTS);
  }

  /** {@code | a | b}: filters without a value yet. */
  List<Expression.Filter> filterNames() {
    List<Expression.Filter> filters = new ArrayList<>();
    while (tokens.take(Kind.OPERATOR, "|")) {
      filters.add(filter(null));
    }
    return filters;
  }

  /** {@code a | b}: as {@code {% filter a | b %}} has them. */
  List<Expression.Filter> filterNamesWithoutBar() {
    List<Expression.Filter> filters = new ArrayList<>(List.of(filter(null)));
    filters.addAll(filterNames());
    return filters;
  }

  private Expression test(Expression operand) {
    boolean negated = tokens.take(Kind.NAME, "not");
    Token name = tokens.expect(Kind.NAME, null);
    if (!Tests.exists(name.text())) {
      throw new TemplateException("There is no test '" + name.text() + "'", name.line());
    }
    ArgumentList arguments = Parser.NO_ARGUMENTS;
    Token next = tokens.peek();
    boolean literal = next.kind() == Kind.STRING || next.kind() == Kind.INTEGER || next.kind() == Kind.FLOAT;
    if (isOperator("(")) {
      arguments = arguments();
    } else if (literal || isOperator("[") || isOperator("{")
        || (next.kind() == Kind.NAME && !NOT_AN_ARGUMENT.contains(next.text()))) {
      arguments = new ArgumentList(List.of(postfix(primary())), Map.of(), null, null);
    }
    Expression test = new Expression.Test(operand, name.text(), arguments);
    return negated ? new Expression.Not(test) : test;
  }

  private boolean isOperator(String text) {
    return tokens.peek().is(Kind.OPERATOR, text);
  }
}
