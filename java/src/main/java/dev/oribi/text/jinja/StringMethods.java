package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.function.IntPredicate;
import java.util.function.Predicate;
import java.util.regex.Pattern;

/** The methods that Python's strings have. */
final class StringMethods {
  private static final Pattern LINE_END = Pattern.compile("\\r\\n|[\\n\\r\\x0B\\f\\x1C-\\x1E\\x85\\u2028\\u2029]");

  private StringMethods() {}

  /** The method bound to its string, or null. */
  static Function find(String s, String name) {
    return switch (name) {
      case "upper" -> (frame, a) -> s.toUpperCase(Locale.ROOT);
      case "lower", "casefold" -> (frame, a) -> s.toLowerCase(Locale.ROOT);
      case "capitalize" -> (frame, a) -> capitalize(s);
      case "title" -> (frame, a) -> title(s);
      case "strip" -> (frame, a) -> strip(s, a.string(0, "chars", null), true, true);
      case "lstrip" -> (frame, a) -> strip(s, a.string(0, "chars", null), true, false);
      case "rstrip" -> (frame, a) -> strip(s, a.string(0, "chars", null), false, true);
      case "split" -> (frame, a) -> split(frame, s, a.string(0, "sep", null), a.integer(1, "maxsplit", -1), false);
      case "rsplit" -> (frame, a) -> split(frame, s, a.string(0, "sep", null), a.integer(1, "maxsplit", -1), true);
      case "splitlines" -> (frame, a) -> lines(frame, s);
      case "startswith" -> (frame, a) -> anyAffix(a.require(0, "prefix"), s::startsWith);
      case "endswith" -> (frame, a) -> anyAffix(a.require(0, "suffix"), s::endsWith);
      case "removeprefix" -> (frame, a) -> {
        String prefix = a.string(0, "prefix", "");
        return s.startsWith(prefix) ? s.substring(prefix.length()) : s;
      };
      case "removesuffix" -> (frame, a) -> {
        String suffix = a.string(0, "suffix", "");
        return s.endsWith(suffix) ? s.substring(0, s.length() - suffix.length()) : s;
      };
      case "replace" -> (frame, a) ->
          replace(frame, s, a.string(0, "old", ""), a.string(1, "new", ""), a.integer(2, "count", -1));
      case "join" -> (frame, a) -> join(frame, s, Values.items(a.require(0, "iterable")));
      case "find" -> (frame, a) -> place(s, s.indexOf(a.string(0, "sub", "")));
      case "rfind" -> (frame, a) -> place(s, s.lastIndexOf(a.string(0, "sub", "")));
      case "count" -> (frame, a) -> (long) split(frame, s, a.string(0, "sub", ""), -1, false).size() - 1;
      case "isdigit", "isnumeric", "isdecimal" -> (frame, a) -> all(s, Character::isDigit);
      case "isalpha" -> (frame, a) -> all(s, Character::isLetter);
      case "isalnum" -> (frame, a) -> all(s, Character::isLetterOrDigit);
      case "isspace" -> (frame, a) -> all(s, Values::isSpace);
      case "isupper" -> (frame, a) -> Tests.isCased(s, Character::isUpperCase, Character::isLowerCase);
      case "islower" -> (frame, a) -> Tests.isCased(s, Character::isLowerCase, Character::isUpperCase);
      default -> null;
    };
  }

  static String capitalize(String s) {
    if (s.isEmpty()) {
      return s;
    }
    int first = s.offsetByCodePoints(0, 1);
    return s.substring(0, first).toUpperCase(Locale.ROOT) + s.substring(first).toLowerCase(Locale.ROOT);
  }

  /** A capital at the beginning of each run of letters, as Python's {@code str.title} has it. */
  private static String title(String s) {
    StringBuilder out = new StringBuilder();
    int[] before = {' '};
    s.codePoints().forEach(c -> {
      out.appendCodePoint(Character.isLetter(before[0]) ? Character.toLowerCase(c) : Character.toTitleCase(c));
      before[0] = c;
    });
    return out.toString();
  }

  /** Without the characters at the ends; null stands for white space. */
  static String strip(String s, String chars, boolean left, boolean right) {
    IntPredicate drop = chars == null ? Values::isSpace : c -> chars.indexOf(c) >= 0;
    int begin = 0;
    int end = s.length();
    while (left && begin < end && drop.test(s.codePointAt(begin))) {
      begin += Character.charCount(s.codePointAt(begin));
    }
    while (right && begin < end && drop.test(s.codePointBefore(end))) {
      end -= Character.charCount(s.codePointBefore(end));
    }
    return s.substring(begin, end);
  }

  /** Parts between separators; null splits at runs of white space. At most {@code limit} splits unless negative. */
  static List<Object> split(Frame frame, String s, String separator, int limit, boolean fromRight) {
    frame.budget.allocate(s.length());
    if (separator != null && separator.isEmpty()) {
      throw new TemplateException("The separator is empty");
    }
    int most = limit < 0 ? Integer.MAX_VALUE : limit;
    List<Object> parts = new ArrayList<>();
    if (separator == null) {
      splitWords(s, most, fromRight, parts);
    } else if (fromRight) {
      int end = s.length();
      for (int i = s.lastIndexOf(separator); i >= 0 && parts.size() < most; ) {
        parts.add(s.substring(i + separator.length(), end));
        end = i;
        i = s.lastIndexOf(separator, end - separator.length());
      }
      parts.add(s.substring(0, end));
      Collections.reverse(parts);
    } else {
      int begin = 0;
      for (int i = s.indexOf(separator); i >= 0 && parts.size() < most; i = s.indexOf(separator, begin)) {
        parts.add(s.substring(begin, i));
        begin = i + separator.length();
      }
      parts.add(s.substring(begin));
    }
    return parts;
  }

  private static void splitWords(String s, int most, boolean fromRight, List<Object> parts) {
    int begin = s.length() - Values.stripLeft(s).length();
    int end = Values.stripRight(s).length();
    while (begin < end && parts.size() < most && fromRight) {
      int i = end;
      while (i > begin && !Values.isSpace(s.charAt(i - 1))) {
        i--;
      }
      parts.add(s.substring(i, end));
      for (end = i; end > begin && Values.isSpace(s.charAt(end - 1)); ) {
        end--;
      }
    }
    while (begin < end && parts.size() < most && !fromRight) {
      int i = begin;
      while (i < end && !Values.isSpace(s.charAt(i))) {
        i++;
      }
      parts.add(s.substring(begin, i));
      for (begin = i; begin < end && Values.isSpace(s.charAt(begin)); ) {
        begin++;
      }
    }
    if (begin < end) {
      // The rest after the last split keeps its white space.
      parts.add(fromRight ? s.substring(0, end) : s.substring(begin));
    }
    if (fromRight) {
      Collections.reverse(parts);
    }
  }

  /** The lines of a text, without their ends; what ends a line is Python's choice. */
  static List<Object> lines(Frame frame, String s) {
    frame.budget.allocate(s.length());
    List<Object> lines = new ArrayList<>(List.of((Object[]) LINE_END.split(s, -1)));
    if (lines.get(lines.size() - 1).equals("")) {
      lines.remove(lines.size() - 1);
    }
    return lines;
  }

  private static boolean anyAffix(Object affix, Predicate<String> test) {
    for (Object one : affix instanceof Tuple tuple ? tuple : List.of(affix == null ? "" : affix)) {
      if (!(one instanceof String text)) {
        Operators.rejectUndefined(one);
        throw new TemplateException("startswith and endswith need a string, not a " + Values.typeName(one));
      }
      if (test.test(text)) {
        return true;
      }
    }
    return false;
  }

  /** Replaces at most {@code count} times unless negative. */
  static String replace(Frame frame, String s, String old, String replacement, int count) {
    if (count < 0 && !old.isEmpty()) {
      long times = old.length() >= replacement.length() ? 0 : split(frame, s, old, -1, false).size() - 1;
      frame.budget.allocate(s.length() + times * (replacement.length() - old.length()));
      return s.replace(old, replacement);
    }
    StringBuilder out = new StringBuilder();
    int from = 0;
    int left = count < 0 ? Integer.MAX_VALUE : count;
    while (left-- > 0 && from <= s.length()) {
      int i = s.indexOf(old, from);
      if (i < 0) {
        break;
      }
      // An empty text stands before every character and at the end.
      int next = old.isEmpty() && i < s.length() ? s.offsetByCodePoints(i, 1) : i + old.length();
      out.append(s, from, i).append(replacement).append(s, i + old.length(), next);
      from = old.isEmpty() && i == s.length() ? s.length() + 1 : next;
      frame.budget.checkSize(out.length());
    }
    String all = out.append(s.substring(Math.min(from, s.length()))).toString();
    frame.budget.allocate(all.length());
    return all;
  }

  static String join(Frame frame, String separator, List<Object> items) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < items.size(); i++) {
      out.append(i == 0 ? "" : separator).append(Text.str(items.get(i)));
      frame.budget.checkSize(out.length());
    }
    frame.budget.allocate(out.length());
    return out.toString();
  }

  /** A UTF-16 index as the number of characters before it, which is Python's index. */
  private static Object place(String s, int index) {
    return index < 0 ? -1L : (long) s.codePointCount(0, index);
  }

  private static boolean all(String s, IntPredicate test) {
    return !s.isEmpty() && s.codePoints().allMatch(test);
  }
}
