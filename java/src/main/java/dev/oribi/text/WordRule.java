package dev.oribi.text;

import java.util.Map;
import java.util.Optional;

/**
 * How text is cut into words before pairs are merged; no merge reaches across a cut. The first ones are the regular expressions
 * of published tokenizers, written out by hand: a general engine would take most of the time, and may take for ever on a pattern
 * from an unknown file.
 */
enum WordRule {
  /** {@code 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+}. */
  GPT2 {
    @Override
    int end(char[] s, int i, int n) {
      int j = contraction(s, i, n, false);
      if (j > i) {
        return j;
      }
      int from = s[i] == ' ' && i + 1 < n ? i + 1 : i;
      byte kind = CharKind.at(s, from, n);
      return kind == CharKind.SPACE ? spaces(s, i, n) : run(s, from, n, kind, Integer.MAX_VALUE);
    }
  },
  /** Each digit alone, then {@link #GPT2} in what is between. */
  DIGITS_GPT2 {
    @Override
    int end(char[] s, int i, int n) {
      if (CharKind.at(s, i, n) == CharKind.NUMBER) {
        return i + CharKind.units(s, i, n);
      }
      int j = i;
      while (j < n && CharKind.isSpace(s[j])) {
        j++;
      }
      // White space in front of a digit ends there, as at the end of a text.
      return j > i && j < n && CharKind.at(s, j, n) == CharKind.NUMBER ? j : GPT2.end(s, i, n);
    }
  },
  /** As {@link #QWEN2}, with numbers in groups of up to three digits. */
  LLAMA3 {
    @Override
    int end(char[] s, int i, int n) {
      return later(s, i, n, 3);
    }
  },
  /**
   * {@code (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+}.
   */
  QWEN2 {
    @Override
    int end(char[] s, int i, int n) {
      return later(s, i, n, 1);
    }
  },
  /** In front of each run of U+2581, the sign for a space. Only for vocabularies in which no token has it behind another sign. */
  SPACE_SIGN {
    @Override
    int end(char[] s, int i, int n) {
      int j = i;
      while (j < n && s[j] == SPACE) {
        j++;
      }
      while (j < n && s[j] != SPACE) {
        j++;
      }
      return j;
    }
  },
  /** Not at all. */
  WHOLE {
    @Override
    int end(char[] s, int i, int n) {
      return n;
    }
  };

  /** What SentencePiece writes for a space. */
  static final char SPACE = '\u2581';

  private static final String LATER_HEAD = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
  private static final String LATER_TAIL = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final Map<String, WordRule> BY_PATTERN = Map.of(
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", GPT2,
      LATER_HEAD + "\\p{N}{1,3}" + LATER_TAIL, LLAMA3,
      LATER_HEAD + "\\p{N}" + LATER_TAIL, QWEN2);

  /** The rule of a regular expression, if it is one of the known ones. */
  static Optional<WordRule> of(String pattern) {
    return Optional.ofNullable(BY_PATTERN.get(pattern));
  }

  /** Where the word that begins at {@code i} ends; {@code i < n}, and the result is more than {@code i}. */
  abstract int end(char[] s, int i, int n);

  private static int later(char[] s, int i, int n, int digits) {
    int j = contraction(s, i, n, true);
    if (j > i) {
      return j;
    }
    byte kind = CharKind.at(s, i, n);
    if (kind == CharKind.LETTER) {
      return run(s, i, n, kind, Integer.MAX_VALUE);
    }
    if (kind == CharKind.NUMBER) {
      return run(s, i, n, kind, digits);
    }
    int next = i + CharKind.units(s, i, n);
    if (s[i] != '\r' && s[i] != '\n' && next < n && CharKind.at(s, next, n) == CharKind.LETTER) {
      return run(s, next, n, CharKind.LETTER, Integer.MAX_VALUE);
    }
    int from = s[i] == ' ' && i + 1 < n ? i + 1 : i;
    if (CharKind.at(s, from, n) == CharKind.OTHER) {
      j = run(s, from, n, CharKind.OTHER, Integer.MAX_VALUE);
      while (j < n && (s[j] == '\r' || s[j] == '\n')) {
        j++;
      }
      return j;
    }
    int newline = lastNewline(s, i, n);
    return newline >= 0 ? newline + 1 : spaces(s, i, n);
  }

  private static int run(char[] s, int i, int n, byte kind, int most) {
    int j = i;
    for (int count = 0; j < n && count < most && CharKind.at(s, j, n) == kind; count++) {
      j += CharKind.units(s, j, n);
    }
    return j;
  }

  /** {@code \s+(?!\S)|\s+}: all of the white space, but for its last sign where something follows. */
  private static int spaces(char[] s, int i, int n) {
    int j = i;
    while (j < n && CharKind.isSpace(s[j])) {
      j++;
    }
    return j < n && j - 1 > i ? j - 1 : j;
  }

  private static int lastNewline(char[] s, int i, int n) {
    int last = -1;
    for (int j = i; j < n && CharKind.isSpace(s[j]); j++) {
      last = s[j] == '\r' || s[j] == '\n' ? j : last;
    }
    return last;
  }

  private static int contraction(char[] s, int i, int n, boolean anyCase) {
    if (s[i] != '\'' || i + 1 >= n) {
      return i;
    }
    char a = lower(s[i + 1], anyCase);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
      return i + 2;
    }
    char b = i + 2 < n ? lower(s[i + 2], anyCase) : 0;
    boolean two = (a == 'r' || a == 'v') && b == 'e' || a == 'l' && b == 'l';
    return two ? i + 3 : i;
  }

  private static char lower(char c, boolean anyCase) {
    if (!anyCase) {
      return c;
    }
    // The long s folds to s.
    return c == '\u017F' ? 's' : c >= 'A' && c <= 'Z' ? (char) (c + 32) : c;
  }
}
