package dev.oribi.text;

/** Text from a file for a message: on one line, and not longer than a screen. */
public final class OneLine {
  private static final int MOST = 300;

  private OneLine() {}

  /** The text with escapes in place of characters that a terminal would obey, and cut if it is long. */
  public static String of(String text) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < Math.min(text.length(), MOST); i++) {
      char c = text.charAt(i);
      out.append(c == '\n' ? "\\n" : Character.isISOControl(c) || c == '\u2028' || c == '\u2029' ? String.format("\\u%04x", (int) c) : c);
    }
    return text.length() > MOST ? out + "…" : out.toString();
  }
}
