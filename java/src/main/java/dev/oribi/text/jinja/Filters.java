package dev.oribi.text.jinja;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/** {@code value | name(arguments)}: filters of one value; those of lists are in {@link ListFilters}. */
final class Filters {
  private static final Set<String> NAMES = Set.of("abs", "attr", "capitalize", "count", "d", "default", "e", "escape",
      "float", "format", "indent", "int", "items", "length", "lower", "replace", "round", "safe", "string", "title",
      "tojson", "trim", "upper", "wordcount");
  private static final Pattern WORD_BEGIN = Pattern.compile("(?<=[-\\s({\\[<])(?![-\\s({\\[<])");
  private static final Pattern WORD = Pattern.compile("\\w+", Pattern.UNICODE_CHARACTER_CLASS);

  private Filters() {}

  static boolean exists(String name) {
    return NAMES.contains(name) || ListFilters.exists(name);
  }

  static Object apply(Frame frame, String name, Object operand, Arguments a) {
    Object value = Values.plain(operand);
    return switch (name) {
      case "abs" -> abs(value);
      case "attr" -> Values.attribute(value, a.string(0, "name", ""));
      case "capitalize" -> StringMethods.capitalize(Text.str(value));
      case "count", "length" -> Values.length(value);
      case "d", "default" -> value instanceof Undefined || (a.truth(1, "boolean", false) && !Values.truth(value))
          ? a.get(0, "default_value", "") : value;
      case "e", "escape" -> operand instanceof Markup ? operand : Markup.escape(Text.str(value));
      case "float" -> toFloat(value, a.get(0, "default", 0.0));
      case "format" -> PercentFormat.format(frame, Text.str(value), new Tuple(a.positional()));
      case "indent" -> indent(frame, Text.str(value), a);
      case "int" -> toInt(value, a.get(0, "default", 0L), a.integer(1, "base", 10));
      case "items" -> items(frame, value);
      case "lower" -> Text.str(value).toLowerCase(Locale.ROOT);
      case "replace" -> StringMethods.replace(frame, Text.str(value), Text.str(a.require(0, "old")),
          Text.str(a.require(1, "new")), a.integer(2, "count", -1));
      case "round" -> round(value, a.integer(0, "precision", 0), a.string(1, "method", "common"));
      case "safe" -> new Markup(Text.str(value));
      case "string" -> Text.str(value);
      case "title" -> title(Text.str(value));
      case "tojson" -> toJson(frame, value, a);
      case "trim" -> StringMethods.strip(Text.str(value), a.string(0, "chars", null), true, true);
      case "upper" -> Text.str(value).toUpperCase(Locale.ROOT);
      case "wordcount" -> WORD.matcher(Text.str(value)).results().count();
      default -> ListFilters.apply(frame, name, value, a);
    };
  }

  private static Object abs(Object value) {
    Operators.rejectUndefined(value);
    if (!Operators.isNumber(value)) {
      throw new TemplateException("abs needs a number, not a " + Values.typeName(value));
    }
    return Operators.toDouble(value) < 0 ? Operators.negate(value) : value;
  }

  private static Object toFloat(Object value, Object otherwise) {
    if (Operators.isNumber(value)) {
      return Operators.toDouble(value);
    }
    try {
      return value instanceof String s ? (Object) Double.parseDouble(Values.strip(s)) : otherwise;
    } catch (NumberFormatException e) {
      return otherwise;
    }
  }

  private static Object toInt(Object value, Object otherwise, int base) {
    if (Operators.isInteger(value)) {
      return Operators.toLong(value);
    } else if (value instanceof Double d) {
      return truncate(d, otherwise);
    } else if (!(value instanceof String)) {
      return otherwise;
    }
    String digits = Values.strip((String) value);
    try {
      return Long.parseLong(digits, base);
    } catch (NumberFormatException e) {
      try {
        return truncate(Double.parseDouble(digits), otherwise);
      } catch (NumberFormatException f) {
        return otherwise;
      }
    }
  }

  private static Object truncate(double d, Object otherwise) {
    return Math.abs(d) < Long.MAX_VALUE ? (Object) (long) d : otherwise;
  }

  private static Object round(Object value, int precision, String method) {
    Operators.rejectUndefined(value);
    if (!Operators.isNumber(value) || Math.abs(precision) > 300) {
      throw new TemplateException("round needs a number and a precision of at most 300 digits");
    }
    RoundingMode mode = switch (method) {
      case "common" -> RoundingMode.HALF_EVEN;
      case "ceil" -> RoundingMode.CEILING;
      case "floor" -> RoundingMode.FLOOR;
      default -> throw new TemplateException("round knows the methods common, ceil and floor");
    };
    if (Operators.isInteger(value)) {
      return method.equals("common") ? value : (Object) Operators.toDouble(value);
    }
    double d = Operators.toDouble(value);
    return Double.isNaN(d) || Double.isInfinite(d) ? d : new BigDecimal(d).setScale(precision, mode).doubleValue();
  }

  private static String indent(Frame frame, String s, Arguments a) {
    Object width = a.get(0, "width", 4L);
    String indentation = width instanceof String text ? text : " ".repeat(Math.max(0, Math.min(1000, Values.toIndex(width))));
    boolean first = a.truth(1, "first", false);
    boolean blank = a.truth(2, "blank", false);
    List<Object> lines = StringMethods.lines(frame, s + "\n");
    StringBuilder out = new StringBuilder(first ? indentation : "");
    for (int i = 0; i < lines.size(); i++) {
      String line = (String) lines.get(i);
      out.append(i == 0 ? "" : "\n").append(i > 0 && (blank || !line.isEmpty()) ? indentation : "").append(line);
      frame.budget.checkSize(out.length());
    }
    frame.budget.allocate(out.length());
    return out.toString();
  }

  private static List<Object> items(Frame frame, Object value) {
    if (value instanceof Undefined) {
      return new ArrayList<>();
    } else if (value instanceof Map<?, ?> map) {
      return Methods.pairs(frame, map);
    }
    throw new TemplateException("items needs a dict, not a " + Values.typeName(value));
  }

  private static String title(String s) {
    StringBuilder out = new StringBuilder();
    for (String word : WORD_BEGIN.split(s)) {
      out.append(StringMethods.capitalize(word));
    }
    return out.toString();
  }

  private static String toJson(Frame frame, Object value, Arguments a) {
    boolean ascii = a.truth(0, "ensure_ascii", false);
    Object width = a.get(1, "indent", null);
    String indentation = width == null ? null
        : width instanceof String s ? s : " ".repeat(Math.max(0, Math.min(1000, Values.toIndex(width))));
    List<Object> separators = a.get(2, "separators", null) == null
        ? List.of(width == null ? ", " : ",", ": ") : Values.items(a.get(2, "separators", null));
    if (separators.size() != 2) {
      throw new TemplateException("separators must be two strings");
    }
    String json = Text.json(value, new Text.JsonStyle(ascii, indentation, Text.str(separators.get(0)),
        Text.str(separators.get(1)), a.truth(3, "sort_keys", false)));
    frame.budget.allocate(json.length());
    return json;
  }
}
