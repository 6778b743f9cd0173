package dev.oribi.text.jinja;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntPredicate;

/** {@code value is name(arguments)}. */
final class Tests {
  private static final Set<String> NAMES = Set.of("defined", "undefined", "none", "boolean", "true", "false", "integer",
      "float", "number", "string", "mapping", "sequence", "iterable", "callable", "odd", "even", "divisibleby", "lower",
      "upper", "in", "sameas", "filter", "test", "escaped", "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le",
      "<=", "gt", "greaterthan", ">", "ge", ">=");

  private Tests() {}

  static boolean exists(String name) {
    return NAMES.contains(name);
  }

  static boolean apply(Frame frame, String name, Object operand, Arguments arguments) {
    Object value = Values.plain(operand);
    return switch (name) {
      case "defined" -> !(value instanceof Undefined);
      case "undefined" -> value instanceof Undefined;
      case "none" -> value == null;
      case "boolean" -> value instanceof Boolean;
      case "true" -> Boolean.TRUE.equals(value);
      case "false" -> Boolean.FALSE.equals(value);
      case "integer" -> value instanceof Long;
      case "float" -> value instanceof Double;
      case "number" -> Operators.isNumber(value);
      case "string" -> value instanceof String;
      case "mapping" -> value instanceof Map;
      case "sequence" -> value instanceof List || value instanceof Map || value instanceof String || value instanceof Undefined;
      case "iterable" -> Values.isIterable(value);
      case "callable" -> value instanceof Function;
      case "odd" -> remainder(value, 2L) == 1;
      case "even" -> remainder(value, 2L) == 0;
      case "divisibleby" -> remainder(value, arguments.require(0, "num")) == 0;
      case "lower" -> isCased(Text.str(value), Character::isLowerCase, Character::isUpperCase);
      case "upper" -> isCased(Text.str(value), Character::isUpperCase, Character::isLowerCase);
      case "in" -> Operators.contains(frame, arguments.require(0, "seq"), value);
      case "sameas" -> same(value, arguments.require(0, "other"));
      case "filter" -> value instanceof String s && Filters.exists(s);
      case "test" -> value instanceof String s && exists(s);
      case "escaped" -> operand instanceof Markup;
      default -> Operators.compare(frame, comparison(name), value, arguments.require(0, "other"));
    };
  }

  private static String comparison(String name) {
    return switch (name) {
      case "eq", "equalto", "==" -> "==";
      case "ne", "!=" -> "!=";
      case "lt", "lessthan", "<" -> "<";
      case "le", "<=" -> "<=";
      case "gt", "greaterthan", ">" -> ">";
      case "ge", ">=" -> ">=";
      default -> throw new TemplateException("There is no test '" + name + "'");
    };
  }

  private static long remainder(Object value, Object divisor) {
    Operators.rejectUndefined(value);
    if (!Operators.isInteger(value) || !Operators.isInteger(divisor) || Operators.toLong(divisor) == 0) {
      throw new TemplateException("odd, even and divisibleby need integers");
    }
    return Math.floorMod(Operators.toLong(value), Operators.toLong(divisor));
  }

  private static boolean same(Object a, Object b) {
    boolean plain = a instanceof Boolean || a instanceof Long || a instanceof Double || a instanceof String;
    return plain ? a.equals(b) : a == b;
  }

  /** At least one letter of the wanted case and none of the other. */
  static boolean isCased(String s, IntPredicate wanted, IntPredicate other) {
    return s.codePoints().anyMatch(wanted) && s.codePoints().noneMatch(other);
  }
}
