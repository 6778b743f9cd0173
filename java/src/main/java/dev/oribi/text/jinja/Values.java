package dev.oribi.text.jinja;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The values of the language and Python's rules for them. None is {@code null}; the others are {@link Boolean}, {@link
 * Long}, {@link Double}, {@link String}, lists ({@link ArrayList}, {@link Tuple}), mappings ({@link LinkedHashMap}),
 * {@link Undefined}, {@link Function} and {@link HasAttributes}.
 */
final class Values {
  private static final int MAX_DEPTH = 200;

  private Values() {}

  /** A copy of a caller's value, all the way down: a template can neither change nor reach what the caller holds. */
  static Object of(Object value) {
    return of(value, 0);
  }

  private static Object of(Object value, int depth) {
    if (depth > MAX_DEPTH) {
      throw new TemplateException("A value is nested more than " + MAX_DEPTH + " deep");
    }
    if (value == null || value instanceof Boolean || value instanceof String || value instanceof Function) {
      return value;
    } else if (value instanceof Integer || value instanceof Long || value instanceof Short || value instanceof Byte) {
      return ((Number) value).longValue();
    } else if (value instanceof BigInteger big && big.bitLength() < Long.SIZE) {
      return big.longValue();
    } else if (value instanceof Double || value instanceof Float || value instanceof BigDecimal) {
      return ((Number) value).doubleValue();
    } else if (value instanceof Map<?, ?> map) {
      Map<Object, Object> copy = new LinkedHashMap<>();
      map.forEach((k, v) -> copy.put(key(of(k, depth + 1)), of(v, depth + 1)));
      return copy;
    } else if (value instanceof Iterable<?> items) {
      List<Object> copy = new ArrayList<>();
      items.forEach(item -> copy.add(of(item, depth + 1)));
      return copy;
    }
    throw new TemplateException("A template cannot use a value of " + value.getClass());
  }

  /** The form under which a key is kept: 1, 1.0 and true are one key, as in Python. */
  static Object key(Object value) {
    if (value instanceof Markup markup) {
      return markup.text();
    } else if (value instanceof Boolean b) {
      return b ? 1L : 0L;
    } else if (value instanceof Double d && d == Math.rint(d) && Math.abs(d) < 1L << 53) {
      return d.longValue();
    } else if (value instanceof Tuple tuple) {
      return new Tuple(tuple.stream().map(Values::scalarKey).toArray());
    }
    return scalarKey(value);
  }

  private static Object scalarKey(Object value) {
    if (value == null || value instanceof String || value instanceof Long || value instanceof Double) {
      return value;
    } else if (value instanceof Boolean || value instanceof Markup) {
      return key(value);
    }
    throw new TemplateException("A " + typeName(value) + " cannot be a key of a dict");
  }

  /** The text of markup; any other value as it is. */
  static Object plain(Object value) {
    return value instanceof Markup markup ? markup.text() : value;
  }

  static String typeName(Object value) {
    if (value == null) {
      return "NoneType";
    } else if (value instanceof Boolean) {
      return "bool";
    } else if (value instanceof Long) {
      return "int";
    } else if (value instanceof Double) {
      return "float";
    } else if (plain(value) instanceof String) {
      return "str";
    } else if (value instanceof Tuple) {
      return "tuple";
    } else if (value instanceof List) {
      return "list";
    } else if (value instanceof Map) {
      return "dict";
    } else if (value instanceof Undefined) {
      return "undefined value";
    }
    return value instanceof Function ? "function" : "object";
  }

  static boolean truth(Object value) {
    if (value == null || value instanceof Undefined) {
      return false;
    } else if (value instanceof Boolean b) {
      return b;
    } else if (value instanceof Long n) {
      return n != 0;
    } else if (value instanceof Double d) {
      return d != 0;
    } else if (plain(value) instanceof String s) {
      return !s.isEmpty();
    } else if (value instanceof List<?> list) {
      return !list.isEmpty();
    }
    return !(value instanceof Map<?, ?> map) || !map.isEmpty();
  }

  /** An index or a count; booleans are integers, as in Python. */
  static int toIndex(Object value) {
    if (value instanceof Boolean b) {
      return b ? 1 : 0;
    } else if (value instanceof Long n && n == n.intValue()) {
      return n.intValue();
    } else if (value instanceof Undefined undefined) {
      throw undefined.error();
    }
    throw new TemplateException("An integer is needed, not " + (value instanceof Long ? value : typeName(value)));
  }

  /** The elements of a list, the keys of a mapping, the characters of a string. */
  static List<Object> items(Object value) {
    if (value instanceof List<?> list) {
      return new ArrayList<>(list);
    } else if (value instanceof Map<?, ?> map) {
      return new ArrayList<>(map.keySet());
    } else if (plain(value) instanceof String s) {
      return new ArrayList<>(s.codePoints().mapToObj(Character::toString).toList());
    } else if (value instanceof Undefined) {
      return new ArrayList<>();
    }
    throw new TemplateException("A " + typeName(value) + " cannot be iterated over");
  }

  static boolean isIterable(Object value) {
    return value instanceof List || value instanceof Map || value instanceof String || value instanceof Undefined;
  }

  static long length(Object value) {
    if (value instanceof String s) {
      return s.codePointCount(0, s.length());
    } else if (value instanceof List<?> list) {
      return list.size();
    } else if (value instanceof Map<?, ?> map) {
      return map.size();
    } else if (value instanceof Undefined) {
      return 0;
    }
    throw new TemplateException("A " + typeName(value) + " has no length");
  }

  /** {@code object.name}: a method or attribute first, then an element. */
  static Object attribute(Object object, String name) {
    if (object instanceof Undefined undefined) {
      throw undefined.error();
    } else if (object instanceof HasAttributes special) {
      return special.attribute(name);
    }
    Function method = Methods.find(plain(object), name);
    if (method != null) {
      return method;
    }
    return object instanceof Map<?, ?> map && map.containsKey(name) ? map.get(name) : new Undefined(name);
  }

  /** {@code object[index]}: an element first, then a method or attribute. */
  static Object item(Object container, Object indexOrMarkup) {
    Object object = plain(container);
    Object index = plain(indexOrMarkup);
    if (object instanceof Map<?, ?> map && !(index instanceof List && !(index instanceof Tuple))
        && !(index instanceof Undefined) && !(index instanceof Map) && map.containsKey(key(index))) {
      return map.get(key(index));
    } else if ((object instanceof List || object instanceof String) && (index instanceof Long || index instanceof Boolean)) {
      List<?> items = object instanceof List<?> list ? list : items(object);
      int i = toIndex(index);
      int place = i < 0 ? i + items.size() : i;
      return place >= 0 && place < items.size() ? items.get(place) : new Undefined("element " + i);
    } else if (index instanceof String name) {
      return attribute(object, name);
    } else if (object instanceof Undefined undefined) {
      throw undefined.error();
    }
    return new Undefined("element " + Text.repr(index));
  }

  /** Python's idea of white space. */
  static boolean isSpace(int c) {
    return Character.isWhitespace(c) || Character.isSpaceChar(c) || c == 0x85;
  }

  static String stripLeft(String s) {
    int i = 0;
    while (i < s.length() && isSpace(s.charAt(i))) {
      i++;
    }
    return s.substring(i);
  }

  static String stripRight(String s) {
    int i = s.length();
    while (i > 0 && isSpace(s.charAt(i - 1))) {
      i--;
    }
    return s.substring(0, i);
  }

  static String strip(String s) {
    return stripLeft(stripRight(s));
  }

  /** The value of a string literal, whose escapes are Python's. */
  static String unescape(String literal, int line) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < literal.length(); i++) {
      char c = literal.charAt(i);
      if (c != '\\') {
        out.append(c);
        continue;
      }
      char escape = literal.charAt(++i);
      int digits = escape == 'x' ? 2 : escape == 'u' ? 4 : escape == 'U' ? 8 : 0;
      if (digits > 0) {
        out.appendCodePoint(hex(literal, i + 1, digits, line));
        i += digits;
      } else {
        out.append(simpleEscape(escape));
      }
    }
    return out.toString();
  }

  private static String simpleEscape(char escape) {
    return switch (escape) {
      case 'n' -> "\n";
      case 't' -> "\t";
      case 'r' -> "\r";
      case 'b' -> "\b";
      case 'f' -> "\f";
      case 'v' -> "\u000B";
      case 'a' -> "\u0007";
      case '0' -> "\0";
      case '\n' -> "";
      case '\\', '\'', '"' -> String.valueOf(escape);
      default -> "\\" + escape;
    };
  }

  private static int hex(String literal, int begin, int digits, int line) {
    try {
      int value = Integer.parseInt(literal, begin, begin + digits, 16);
      if (Character.isValidCodePoint(value)) {
        return value;
      }
    } catch (IndexOutOfBoundsException | NumberFormatException e) {
      // falls through to the one message for all of these
    }
    throw new TemplateException("An escape in a string is not " + digits + " hexadecimal digits", line);
  }
}
