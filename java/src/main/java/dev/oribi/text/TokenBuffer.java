package dev.oribi.text;

import java.util.Arrays;

/** Tokens with the characters that they stand for, as they are made. */
final class TokenBuffer {
  private final boolean offsets;
  private int[] ids = new int[256];
  private int[] begin;
  private int[] end;
  private int size;

  TokenBuffer(boolean offsets) {
    this.offsets = offsets;
    begin = new int[offsets ? 256 : 0];
    end = new int[offsets ? 256 : 0];
  }

  void add(int id, int from, int to) {
    if (size == ids.length) {
      ids = Arrays.copyOf(ids, 2 * size);
      begin = offsets ? Arrays.copyOf(begin, 2 * size) : begin;
      end = offsets ? Arrays.copyOf(end, 2 * size) : end;
    }
    if (offsets) {
      begin[size] = from;
      end[size] = to;
    }
    ids[size++] = id;
  }

  void addAll(int[] more) {
    for (int id : more) {
      add(id, -1, -1);
    }
  }

  /**
   * The tokens of a word.
   *
   * @param text the word stands at {@code from} to {@code to}
   * @param origin place in the source of each character of {@code text}, and of its end; null: {@code shift} is added
   */
  void addWord(int[] wordIds, int[] bytes, int count, char[] text, int from, int to, int[] origin, int shift) {
    if (!offsets) {
      for (int t = 0; t < count; t++) {
        add(wordIds[t], 0, 0);
      }
      return;
    }
    int at = from;
    int left = 0;
    for (int t = 0; t < count; t++) {
      int first = at;
      for (int need = bytes[t]; need > 0; ) {
        int units = CharKind.units(text, at, to);
        left = left > 0 ? left : BytePairs.utf8Length(units == 2 ? 0x10000 : text[at]);
        int take = Math.min(left, need);
        left -= take;
        need -= take;
        at += left == 0 ? units : 0;
      }
      // A token that ends within a character stands for the whole of it.
      int past = left == 0 ? at : at + CharKind.units(text, at, to);
      add(wordIds[t], source(origin, first, shift), origin == null ? past + shift : end(origin, text, first, past));
    }
  }

  /** A token of a sign that is not in the source stands for the character behind it. */
  private static int end(int[] origin, char[] text, int first, int past) {
    int at = past;
    while (at + 1 < origin.length && (origin[at] == origin[first] || Character.isLowSurrogate(text[at]))) {
      at++;
    }
    return origin[at];
  }

  private static int source(int[] origin, int at, int shift) {
    return origin != null ? origin[at] : at + shift;
  }

  Encoding take() {
    return new Encoding(Arrays.copyOf(ids, size), Arrays.copyOf(begin, offsets ? size : 0), Arrays.copyOf(end, offsets ? size : 0));
  }
}
