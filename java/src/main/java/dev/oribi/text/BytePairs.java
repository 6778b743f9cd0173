package dev.oribi.text;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;

/**
 * A vocabulary with its merges.
 *
 * @param ids every token of the model, without added ones
 * @param pairs what merges
 * @param byteIds tokens of the 256 bytes; -1 for those that have none
 * @param byteLevel whether words are bytes from the beginning, as GPT-2's; else characters, as SentencePiece's
 * @param whole whether a word that is in the vocabulary is that token, whatever the merges say
 * @param unknown the token for a character that is neither in the vocabulary nor made of bytes; -1: it has none
 * @param fuseUnknown whether unknown characters side by side are one token
 */
record BytePairs(Map<String, Integer> ids, PairTable pairs, int[] byteIds, boolean byteLevel, boolean whole, int unknown,
    boolean fuseUnknown) implements WordEncoder {
  /** GPT-2's characters for bytes: those that can be printed stand for themselves, the others for characters from 256 on. */
  private static final char[] ALPHABET = new char[256];
  private static final short[] BYTES = new short[512];

  static {
    Arrays.fill(BYTES, (short) -1);
    for (int b = 0, other = 256; b < 256; b++) {
      boolean printable = b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE;
      ALPHABET[b] = (char) (printable ? b : other++);
      BYTES[ALPHABET[b]] = (short) b;
    }
  }

  static char letterOf(int unsignedByte) {
    return ALPHABET[unsignedByte];
  }

  /** The byte that a character stands for, or -1. */
  static int byteOf(char c) {
    return c < BYTES.length ? BYTES[c] : -1;
  }

  @Override
  public void encode(char[] text, int begin, int end, Merger out) {
    out.clear();
    if (byteLevel) {
      bytes(text, begin, end, out);
    } else {
      characters(text, begin, end, out);
    }
    out.merge();
  }

  private void bytes(char[] text, int begin, int end, Merger out) {
    byte[] utf8 = new String(text, begin, end - begin).getBytes(StandardCharsets.UTF_8);
    if (whole) {
      char[] letters = new char[utf8.length];
      for (int i = 0; i < utf8.length; i++) {
        letters[i] = ALPHABET[utf8[i] & 0xFF];
      }
      Integer id = ids.get(new String(letters));
      if (id != null) {
        out.add(id, utf8.length);
        return;
      }
    }
    for (byte b : utf8) {
      out.add(byteIds[b & 0xFF], 1);
    }
  }

  private void characters(char[] text, int begin, int end, Merger out) {
    for (int i = begin; i < end; ) {
      int units = CharKind.units(text, i, end);
      String character = new String(text, i, units);
      Integer id = ids.get(character);
      i += units;
      byte[] utf8 = id == null ? character.getBytes(StandardCharsets.UTF_8) : null;
      if (id != null) {
        out.add(id, utf8Length(character.codePointAt(0)));
      } else if (haveBytes(utf8)) {
        for (byte b : utf8) {
          out.add(byteIds[b & 0xFF], 1);
        }
      } else if (fuseUnknown && out.size > 0 && out.ids[out.size - 1] == unknown) {
        out.bytes[out.size - 1] += utf8.length;
      } else {
        out.add(unknown, utf8.length);
      }
    }
  }

  private boolean haveBytes(byte[] utf8) {
    for (byte b : utf8) {
      if (byteIds[b & 0xFF] < 0) {
        return false;
      }
    }
    return true;
  }

  static int utf8Length(int codePoint) {
    return codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
  }
}
