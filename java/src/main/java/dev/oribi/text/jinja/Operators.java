package dev.oribi.text.jinja;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

/** Arithmetic and comparison, with Python's rules: exact integers, flooring division, no mixing of text and numbers. */
final class Operators {
  private Operators() {}

  static Object binary(Frame frame, String operator, Object left, Object right) {
    Object a = Values.plain(left);
    Object b = Values.plain(right);
    rejectUndefined(a);
    rejectUndefined(b);
    if (operator.equals("+") && (left instanceof Markup || right instanceof Markup) && a instanceof String && b instanceof String) {
      return new Markup((String) concatenate(frame, escaped(left), escaped(right)));
    }
    if (isNumber(a) && isNumber(b)) {
      return a instanceof Double || b instanceof Double
          ? floats(operator, toDouble(a), toDouble(b)) : integers(operator, toLong(a), toLong(b));
    }
    if (operator.equals("+")) {
      return concatenate(frame, a, b);
    } else if (operator.equals("*") && isInteger(b) && (a instanceof String || a instanceof List)) {
      return repeat(frame, a, toLong(b));
    } else if (operator.equals("*") && isInteger(a) && (b instanceof String || b instanceof List)) {
      return repeat(frame, b, toLong(a));
    } else if (operator.equals("%") && a instanceof String format) {
      return PercentFormat.format(frame, format, b);
    }
    throw mismatch(operator, a, b);
  }

  private static String escaped(Object value) {
    return value instanceof Markup markup ? markup.text() : Markup.escape((String) value).text();
  }

  private static Object concatenate(Frame frame, Object a, Object b) {
    if (a instanceof String s && b instanceof String t) {
      frame.budget.allocate((long) s.length() + t.length());
      return s + t;
    } else if (a instanceof List<?> list && b instanceof List<?> other && a instanceof Tuple == b instanceof Tuple) {
      frame.budget.allocateList((long) list.size() + other.size());
      List<Object> sum = new ArrayList<>(list);
      sum.addAll(other);
      return a instanceof Tuple ? new Tuple(sum) : sum;
    }
    throw mismatch("+", a, b);
  }

  private static Object repeat(Frame frame, Object value, long times) {
    long count = Math.max(0, Math.min(times, Integer.MAX_VALUE));
    long size = value instanceof String s ? s.length() : ((List<?>) value).size();
    if (size == 0) {
      return value;
    } else if (value instanceof String s) {
      frame.budget.allocate(size * count);
      return s.repeat((int) count);
    }
    frame.budget.allocateList(size * count);
    List<Object> repeated = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      repeated.addAll((List<?>) value);
    }
    return value instanceof Tuple ? new Tuple(repeated) : repeated;
  }

  private static Object integers(String operator, long a, long b) {
    try {
      return switch (operator) {
        case "+" -> Math.addExact(a, b);
        case "-" -> Math.subtractExact(a, b);
        case "*" -> Math.multiplyExact(a, b);
        case "/" -> (double) a / nonZero(b);
        case "//" -> Math.floorDiv(a, nonZero(b));
        case "%" -> Math.floorMod(a, nonZero(b));
        case "**" -> power(a, b);
        default -> throw new IllegalStateException(operator);
      };
    } catch (ArithmeticException e) {
      throw new TemplateException("An integer becomes larger than 64 bits");
    }
  }

  private static Object power(long a, long b) {
    if (b < 0) {
      return Math.pow(a, b);
    }
    if (Math.abs(a) > 1 && b > 64) {
      throw new ArithmeticException();
    }
    // 0, 1 and -1 have no large powers, whatever the exponent.
    return BigInteger.valueOf(a).pow(Math.abs(a) > 1 ? (int) b : (int) Math.min(b, 2 + b % 2)).longValueExact();
  }

  private static Object floats(String operator, double a, double b) {
    return switch (operator) {
      case "+" -> a + b;
      case "-" -> a - b;
      case "*" -> a * b;
      case "/" -> a / nonZero(b);
      case "//" -> Math.floor(a / nonZero(b));
      case "%" -> {
        double rest = a % nonZero(b);
        yield rest != 0 && rest < 0 != b < 0 ? rest + b : rest;
      }
      case "**" -> Math.pow(a, b);
      default -> throw new IllegalStateException(operator);
    };
  }

  private static long nonZero(long b) {
    if (b == 0) {
      throw new TemplateException("Division by zero");
    }
    return b;
  }

  private static double nonZero(double b) {
    if (b == 0) {
      throw new TemplateException("Division by zero");
    }
    return b;
  }

  static Object negate(Object value) {
    if (isInteger(value)) {
      return integers("-", 0, toLong(value));
    } else if (value instanceof Double d) {
      return -d;
    }
    rejectUndefined(value);
    throw new TemplateException("A " + Values.typeName(value) + " has no negative");
  }

  static boolean compare(Frame frame, String operator, Object left, Object right) {
    Object a = Values.plain(left);
    Object b = Values.plain(right);
    return switch (operator) {
      case "==" -> equal(frame, a, b);
      case "!=" -> !equal(frame, a, b);
      case "<" -> compare(a, b) < 0;
      case "<=" -> compare(a, b) <= 0;
      case ">" -> compare(a, b) > 0;
      case ">=" -> compare(a, b) >= 0;
      case "in" -> contains(frame, b, a);
      case "not in" -> !contains(frame, b, a);
      default -> throw new IllegalStateException(operator);
    };
  }

  /** Order of numbers, strings and lists; an error for everything else. */
  static int compare(Object a, Object b) {
    rejectUndefined(a);
    rejectUndefined(b);
    if (isNumber(a) && isNumber(b)) {
      return a instanceof Double || b instanceof Double
          ? Double.compare(toDouble(a), toDouble(b)) : Long.compare(toLong(a), toLong(b));
    } else if (a instanceof String s && b instanceof String t) {
      return compareCodePoints(s, t);
    } else if (a instanceof List<?> list && b instanceof List<?> other && a instanceof Tuple == b instanceof Tuple) {
      for (int i = 0; i < Math.min(list.size(), other.size()); i++) {
        int order = compare(list.get(i), other.get(i));
        if (order != 0) {
          return order;
        }
      }
      return Integer.compare(list.size(), other.size());
    }
    throw mismatch("<", a, b);
  }

  private static int compareCodePoints(String s, String t) {
    Iterator<Integer> a = s.codePoints().iterator();
    Iterator<Integer> b = t.codePoints().iterator();
    while (a.hasNext() && b.hasNext()) {
      int order = Integer.compare(a.next(), b.next());
      if (order != 0) {
        return order;
      }
    }
    return Boolean.compare(a.hasNext(), b.hasNext());
  }

  static boolean equal(Frame frame, Object a, Object b) {
    frame.budget.step();
    if (a == b) {
      return true;
    } else if (isNumber(a) && isNumber(b)) {
      return a instanceof Double || b instanceof Double ? toDouble(a) == toDouble(b) : toLong(a) == toLong(b);
    } else if (a instanceof Undefined || b instanceof Undefined) {
      return a instanceof Undefined && b instanceof Undefined;
    } else if (a instanceof List<?> list && b instanceof List<?> other) {
      return a instanceof Tuple == b instanceof Tuple && equalLists(frame, list, other);
    } else if (a instanceof Map<?, ?> map && b instanceof Map<?, ?> other) {
      return map.size() == other.size() && map.keySet().stream()
          .allMatch(key -> other.containsKey(key) && equal(frame, map.get(key), other.get(key)));
    }
    return Values.plain(a) instanceof String s && s.equals(Values.plain(b));
  }

  private static boolean equalLists(Frame frame, List<?> a, List<?> b) {
    if (a.size() != b.size()) {
      return false;
    }
    for (int i = 0; i < a.size(); i++) {
      if (!equal(frame, a.get(i), b.get(i))) {
        return false;
      }
    }
    return true;
  }

  static boolean contains(Frame frame, Object container, Object value) {
    if (container instanceof String s) {
      rejectUndefined(value);
      if (!(value instanceof String part)) {
        throw mismatch("in", value, container);
      }
      return s.contains(part);
    } else if (container instanceof Map<?, ?> map) {
      return !(value instanceof Undefined) && map.containsKey(Values.key(value));
    }
    for (Object item : Values.items(container)) {
      if (equal(frame, item, value)) {
        return true;
      }
    }
    return false;
  }

  static boolean isNumber(Object value) {
    return value instanceof Double || isInteger(value);
  }

  static boolean isInteger(Object value) {
    return value instanceof Long || value instanceof Boolean;
  }

  static long toLong(Object value) {
    return value instanceof Boolean b ? (b ? 1 : 0) : (Long) value;
  }

  static double toDouble(Object value) {
    return value instanceof Double d ? d : toLong(value);
  }

  static void rejectUndefined(Object value) {
    if (value instanceof Undefined undefined) {
      throw undefined.error();
    }
  }

  private static TemplateException mismatch(String operator, Object a, Object b) {
    return new TemplateException("The operator " + operator + " does not work between " + Values.typeName(a) + " and "
        + Values.typeName(b));
  }
}
