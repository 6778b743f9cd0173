package dev.oribi.text;

import java.util.Arrays;

/**
 * The tokens of words seen lately, of one thread. Each word has one place, by its hash; a new one there replaces the old. Long
 * words are left out, so that its size is bounded.
 */
final class WordCache {
  /** 32,768 words hold all but some percent of the words of real text. */
  private static final int PLACES = 1 << 15;
  static final int LONGEST = 48;

  private final char[][] words = new char[PLACES][];
  private final int[][] ids = new int[PLACES][];
  private final int[][] bytes = new int[PLACES][];

  /** The place of the word; {@link #holds} says whether it is there. */
  static int place(char[] text, int begin, int end) {
    int hash = 0;
    for (int i = begin; i < end; i++) {
      hash = 31 * hash + text[i];
    }
    hash *= 0x9E3779B9;
    return hash >>> 17;
  }

  boolean holds(int place, char[] text, int begin, int end) {
    char[] word = words[place];
    return word != null && Arrays.equals(word, 0, word.length, text, begin, end);
  }

  int[] ids(int place) {
    return ids[place];
  }

  int[] bytes(int place) {
    return bytes[place];
  }

  void put(int place, char[] text, int begin, int end, Merger merged) {
    words[place] = Arrays.copyOfRange(text, begin, end);
    ids[place] = Arrays.copyOf(merged.ids, merged.size);
    bytes[place] = Arrays.copyOf(merged.bytes, merged.size);
  }
}
