package dev.oribi.text.jinja;

import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Locale;

/** Dates in the notation of C's {@code strftime}, in English. */
final class Strftime {
  private Strftime() {}

  static String format(ZonedDateTime time, String format) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < format.length(); i++) {
      char c = format.charAt(i);
      if (c != '%') {
        out.append(c);
        continue;
      }
      boolean unpadded = i + 1 < format.length() && format.charAt(i + 1) == '-';
      i += unpadded ? 2 : 1;
      String field = field(time, i < format.length() ? format.charAt(i) : ' ');
      out.append(unpadded && field.length() > 1 && field.startsWith("0") ? field.substring(1) : field);
    }
    return out.toString();
  }

  private static String field(ZonedDateTime time, char code) {
    String pattern = switch (code) {
      case 'Y' -> "uuuu";
      case 'y' -> "uu";
      case 'm' -> "MM";
      case 'd' -> "dd";
      case 'B' -> "MMMM";
      case 'b', 'h' -> "MMM";
      case 'A' -> "EEEE";
      case 'a' -> "EEE";
      case 'H' -> "HH";
      case 'I' -> "hh";
      case 'M' -> "mm";
      case 'S' -> "ss";
      case 'p' -> "a";
      case 'j' -> "DDD";
      case 'Z' -> "zzz";
      case 'z' -> "xx";
      case 'F' -> "uuuu-MM-dd";
      case 'T' -> "HH:mm:ss";
      case 'D' -> "MM/dd/uu";
      case '%' -> "'%'";
      default -> throw new TemplateException("strftime_now does not know %" + code);
    };
    return DateTimeFormatter.ofPattern(pattern, Locale.US).format(time);
  }
}
