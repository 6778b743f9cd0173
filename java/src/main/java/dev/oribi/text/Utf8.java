package dev.oribi.text;

/**
 * UTF-8 that may be broken, as Rust reads it: each longest beginning of a character that does not go on as it must is one U+FFFD.
 * Java's own decoder makes fewer of them.
 */
final class Utf8 {
  private static final char REPLACEMENT = '\uFFFD';

  private Utf8() {}

  static String lossy(byte[] bytes, int length) {
    StringBuilder out = new StringBuilder(length);
    for (int i = 0; i < length; ) {
      int first = bytes[i] & 0xFF;
      if (first < 0x80) {
        out.append((char) first);
        i++;
        continue;
      }
      int need = first >= 0xC2 && first <= 0xDF ? 1 : first >= 0xE0 && first <= 0xEF ? 2 : first >= 0xF0 && first <= 0xF4 ? 3 : 0;
      int value = first & 0x3F >> need;
      int have = 0;
      while (have < need && i + 1 + have < length && continues(first, have, bytes[i + 1 + have] & 0xFF)) {
        value = value << 6 | bytes[i + 1 + have] & 0x3F;
        have++;
      }
      out.appendCodePoint(need > 0 && have == need ? value : REPLACEMENT);
      i += 1 + have;
    }
    return out.toString();
  }

  /** Whether a byte may stand at a place behind the first one; the second excludes surrogates, too long forms and too large values. */
  private static boolean continues(int first, int place, int b) {
    int low = place > 0 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    int high = place > 0 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return b >= low && b <= high;
  }
}
