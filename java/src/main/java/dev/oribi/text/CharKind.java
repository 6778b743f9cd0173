package dev.oribi.text;

/**
 * What the rules that cut text into words need to know of a character: letter, number, white space or none of these, as Unicode
 * has it. A code point that this Java's version of Unicode does not know is told apart, since a newer version may call it a letter.
 */
final class CharKind {
  static final byte OTHER = 0;
  static final byte LETTER = 1;
  static final byte NUMBER = 2;
  static final byte SPACE = 3;
  static final byte UNKNOWN = 4;
  static final byte SURROGATE = 5;

  private static final byte[] BASIC = new byte[1 << 16];

  static {
    for (int c = 0; c < BASIC.length; c++) {
      BASIC[c] = kind(c);
    }
  }

  private CharKind() {}

  /** The kind of the code point that begins at a place, which must not be in the middle of a surrogate pair. */
  static byte at(char[] text, int i, int end) {
    byte kind = BASIC[text[i]];
    return kind != SURROGATE ? kind : pair(text, i, end);
  }

  private static byte pair(char[] text, int i, int end) {
    if (i + 1 >= end || !Character.isSurrogatePair(text[i], text[i + 1])) {
      return SURROGATE;
    }
    return kind(Character.toCodePoint(text[i], text[i + 1]));
  }

  /** UTF-16 units of the code point there. */
  static int units(char[] text, int i, int end) {
    return Character.isHighSurrogate(text[i]) && i + 1 < end && Character.isLowSurrogate(text[i + 1]) ? 2 : 1;
  }

  static boolean isSpace(char c) {
    return BASIC[c] == SPACE;
  }

  private static byte kind(int codePoint) {
    // Unicode's White_Space; Character.isWhitespace leaves some of these out.
    boolean space = codePoint >= 0x9 && codePoint <= 0xD || codePoint == 0x20 || codePoint == 0x85 || codePoint == 0xA0
        || codePoint == 0x1680 || codePoint >= 0x2000 && codePoint <= 0x200A || codePoint == 0x2028 || codePoint == 0x2029
        || codePoint == 0x202F || codePoint == 0x205F || codePoint == 0x3000;
    if (space) {
      return SPACE;
    }
    return switch (Character.getType(codePoint)) {
      case Character.UPPERCASE_LETTER, Character.LOWERCASE_LETTER, Character.TITLECASE_LETTER, Character.MODIFIER_LETTER,
          Character.OTHER_LETTER -> LETTER;
      case Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> NUMBER;
      case Character.UNASSIGNED -> UNKNOWN;
      case Character.SURROGATE -> SURROGATE;
      default -> OTHER;
    };
  }
}
