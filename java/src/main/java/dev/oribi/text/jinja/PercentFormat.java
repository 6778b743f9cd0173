package dev.oribi.text.jinja;

import java.util.IllegalFormatException;
import java.util.List;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Python's {@code 'text %s' % values}, with the conversions s, r, d, i, f, e, x, X, o and %. */
final class PercentFormat {
  private static final Pattern FIELD = Pattern.compile("%([-+ 0#]*)(\\d{0,3})(?:\\.(\\d{1,3}))?([a-zA-Z%])");

  private PercentFormat() {}

  static String format(Frame frame, String format, Object values) {
    List<?> list = values instanceof Tuple tuple ? tuple : List.of(values == null ? "None" : values);
    StringBuilder out = new StringBuilder();
    Matcher field = FIELD.matcher(format);
    int from = 0;
    int next = 0;
    while (field.find()) {
      out.append(format, from, field.start());
      from = field.end();
      if (field.group(4).equals("%")) {
        out.append('%');
      } else if (next == list.size()) {
        throw new TemplateException("A format has more fields than values");
      } else {
        out.append(one(field, list.get(next++)));
      }
      frame.budget.checkSize(out.length());
    }
    if (next != list.size()) {
      throw new TemplateException("A format has fewer fields than values");
    }
    frame.budget.allocate(out.length());
    return out.append(format.substring(from)).toString();
  }

  private static String one(Matcher field, Object value) {
    String width = field.group(1) + field.group(2);
    String precision = field.group(3) == null ? "" : "." + field.group(3);
    try {
      return switch (field.group(4)) {
        case "s" -> String.format(Locale.ROOT, "%" + width + precision + "s", Text.str(value));
        case "r" -> String.format(Locale.ROOT, "%" + width + precision + "s", Text.repr(value));
        case "d", "i" -> String.format(Locale.ROOT, "%" + width + "d", integer(value));
        case "f", "F" -> String.format(Locale.ROOT, "%" + width + precision + "f", number(value));
        case "e" -> String.format(Locale.ROOT, "%" + width + precision + "e", number(value));
        case "x" -> String.format(Locale.ROOT, "%" + width + "x", integer(value));
        case "X" -> String.format(Locale.ROOT, "%" + width + "X", integer(value));
        case "o" -> String.format(Locale.ROOT, "%" + width + "o", integer(value));
        default -> throw new TemplateException("The format %" + field.group(4) + " is not known");
      };
    } catch (IllegalFormatException e) {
      throw new TemplateException("The format " + field.group() + " cannot be used");
    }
  }

  private static long integer(Object value) {
    return value instanceof Double d ? d.longValue() : Operators.isInteger(value) ? Operators.toLong(value) : (long) number(value);
  }

  private static double number(Object value) {
    if (!Operators.isNumber(value)) {
      throw new TemplateException("A format needs a number, not a " + Values.typeName(value));
    }
    return Operators.toDouble(value);
  }
}
