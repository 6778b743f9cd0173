package dev.oribi.text.jinja;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Values as text, character for character as Python's {@code str}, {@code repr} and {@code json.dumps} write them. */
final class Text {
  private static final int MAX_LENGTH = 1 << 25;

  private Text() {}

  static String str(Object value) {
    if (Values.plain(value) instanceof String s) {
      return s;
    } else if (value instanceof Undefined) {
      return "";
    }
    return repr(value);
  }

  static String repr(Object value) {
    StringBuilder out = new StringBuilder();
    repr(out, value);
    return out.toString();
  }

  private static void repr(StringBuilder out, Object value) {
    checkLength(out);
    if (value == null) {
      out.append("None");
    } else if (value instanceof Boolean b) {
      out.append(b ? "True" : "False");
    } else if (value instanceof Long n) {
      out.append(n.longValue());
    } else if (value instanceof Double d) {
      out.append(number(d));
    } else if (Values.plain(value) instanceof String s) {
      quote(out, s);
    } else if (value instanceof List<?> list) {
      reprList(out, list);
    } else if (value instanceof Map<?, ?> map) {
      String separator = "{";
      for (Map.Entry<?, ?> entry : map.entrySet()) {
        out.append(separator);
        repr(out, entry.getKey());
        out.append(": ");
        repr(out, entry.getValue());
        separator = ", ";
      }
      out.append(map.isEmpty() ? "{}" : "}");
    } else {
      out.append(value instanceof Undefined ? "Undefined" : "<" + Values.typeName(value) + ">");
    }
  }

  private static void reprList(StringBuilder out, List<?> list) {
    boolean tuple = list instanceof Tuple;
    out.append(tuple ? '(' : '[');
    for (int i = 0; i < list.size(); i++) {
      out.append(i == 0 ? "" : ", ");
      repr(out, list.get(i));
    }
    out.append(tuple && list.size() == 1 ? "," : "").append(tuple ? ')' : ']');
  }

  private static void checkLength(StringBuilder out) {
    if (out.length() > MAX_LENGTH) {
      throw new TemplateException("A value is longer than " + MAX_LENGTH + " characters as text");
    }
  }

  /** The shortest digits that read back as the same number; an exponent below 1e-4 and from 1e16 on. */
  static String number(double d) {
    if (Double.isNaN(d)) {
      return "nan";
    } else if (Double.isInfinite(d)) {
      return d > 0 ? "inf" : "-inf";
    } else if (d == 0) {
      return 1 / d < 0 ? "-0.0" : "0.0";
    }
    BigDecimal shortest = shortest(d);
    int exponent = shortest.precision() - shortest.scale() - 1;
    if (exponent >= -4 && exponent < 16) {
      String plain = shortest.toPlainString();
      return plain.indexOf('.') < 0 ? plain + ".0" : plain;
    }
    String digits = shortest.unscaledValue().abs().toString();
    String fraction = digits.length() > 1 ? "." + digits.substring(1) : "";
    String power = (exponent < 0 ? "-" : "+") + (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
    return (d < 0 ? "-" : "") + digits.charAt(0) + fraction + "e" + power;
  }

  /** Double.toString of older Java releases gives a digit too many at times: look for a shorter form. */
  private static BigDecimal shortest(double d) {
    for (int digits = 1; digits < 17; digits++) {
      BigDecimal rounded = new BigDecimal(d).round(new MathContext(digits));
      if (rounded.doubleValue() == d) {
        return rounded.stripTrailingZeros();
      }
    }
    return new BigDecimal(d).round(new MathContext(17)).stripTrailingZeros();
  }

  private static void quote(StringBuilder out, String s) {
    char quote = s.indexOf('\'') >= 0 && s.indexOf('"') < 0 ? '"' : '\'';
    out.append(quote);
    s.codePoints().forEach(c -> {
      switch (c) {
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        case '\\' -> out.append("\\\\");
        default -> {
          if (c == quote) {
            out.append('\\').append(quote);
          } else if (isPrintable(c)) {
            out.appendCodePoint(c);
          } else {
            out.append(String.format(c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c));
          }
        }
      }
    });
    out.append(quote);
  }

  private static boolean isPrintable(int c) {
    return c == ' ' || switch (Character.getType(c)) {
      case Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
          Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR -> false;
      default -> true;
    };
  }

  /**
   * How JSON is laid out.
   *
   * @param indent what each level is indented by; null writes one line
   */
  record JsonStyle(boolean ascii, String indent, String itemSeparator, String keySeparator, boolean sortKeys) {}

  static String json(Object value, JsonStyle style) {
    StringBuilder out = new StringBuilder();
    json(out, value, style, "\n");
    return out.toString();
  }

  private static void json(StringBuilder out, Object value, JsonStyle style, String newLine) {
    checkLength(out);
    if (value == null || value instanceof Boolean) {
      out.append(value);
    } else if (value instanceof Long n) {
      out.append(n.longValue());
    } else if (value instanceof Double d) {
      out.append(Double.isNaN(d) ? "NaN" : Double.isInfinite(d) ? (d > 0 ? "Infinity" : "-Infinity") : number(d));
    } else if (Values.plain(value) instanceof String s) {
      jsonString(out, s, style.ascii());
    } else if (value instanceof List<?> list) {
      jsonList(out, list, style, newLine);
    } else if (value instanceof Map<?, ?> map) {
      jsonMap(out, map, style, newLine);
    } else {
      throw new TemplateException("A " + Values.typeName(value) + " cannot be written as JSON");
    }
  }

  private static void jsonList(StringBuilder out, List<?> list, JsonStyle style, String newLine) {
    if (list.isEmpty()) {
      out.append("[]");
      return;
    }
    String inner = newLine + (style.indent() == null ? "" : style.indent());
    String separator = "[";
    for (Object item : list) {
      out.append(separator).append(style.indent() == null ? "" : inner);
      json(out, item, style, inner);
      separator = style.itemSeparator();
    }
    out.append(style.indent() == null ? "" : newLine).append(']');
  }

  private static void jsonMap(StringBuilder out, Map<?, ?> map, JsonStyle style, String newLine) {
    if (map.isEmpty()) {
      out.append("{}");
      return;
    }
    String inner = newLine + (style.indent() == null ? "" : style.indent());
    String separator = "{";
    List<Object> keys = new ArrayList<>(map.keySet());
    if (style.sortKeys()) {
      keys.sort(Operators::compare);
    }
    for (Object key : keys) {
      out.append(separator).append(style.indent() == null ? "" : inner);
      if (key instanceof List) {
        throw new TemplateException("A tuple cannot be a key in JSON");
      }
      jsonString(out, key instanceof String s ? s : key == null ? "null" : repr(key), style.ascii());
      out.append(style.keySeparator());
      json(out, map.get(key), style, inner);
      separator = style.itemSeparator();
    }
    out.append(style.indent() == null ? "" : newLine).append('}');
  }

  private static void jsonString(StringBuilder out, String s, boolean ascii) {
    out.append('"');
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      switch (c) {
        case '"' -> out.append("\\\"");
        case '\\' -> out.append("\\\\");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        case '\b' -> out.append("\\b");
        case '\f' -> out.append("\\f");
        default -> {
          if (c < ' ' || (ascii && c > '~')) {
            out.append(String.format("\\u%04x", (int) c));
          } else {
            out.append(c);
          }
        }
      }
    }
    out.append('"');
  }
}
