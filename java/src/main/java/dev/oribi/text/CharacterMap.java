package dev.oribi.text;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * SentencePiece's normalizer: the longest bytes that its map has are replaced (NFKC and the like), then spaces at the ends and
 * doubled ones go, and the rest become signs. The map is a trie as a double array (Darts) with the new texts behind it, which
 * comes from the model's file: what points outside it matches nothing.
 */
final class CharacterMap {
  private final int[] trie;
  private final byte[] texts;
  private final SentencePieceFile model;

  /**
   * A text after it.
   *
   * @param origin place in the source of each character, and of the end
   */
  record Normalized(char[] chars, int length, int[] origin) {}

  CharacterMap(SentencePieceFile model) {
    this.model = model;
    byte[] map = model.characterMap;
    if (map.length == 0) {
      trie = new int[0];
      texts = map;
      return;
    }
    ByteBuffer in = ByteBuffer.wrap(map).order(ByteOrder.LITTLE_ENDIAN);
    int size = map.length < 4 ? -1 : in.getInt();
    if (size < 4 || size > in.remaining() || size % 4 != 0) {
      throw model.broken("its map of characters is not whole");
    }
    trie = new int[size / 4];
    in.asIntBuffer().get(trie);
    texts = Arrays.copyOfRange(map, 4 + size, map.length);
  }

  /** What a part of a text becomes. */
  Normalized apply(char[] chars, int begin, int end) {
    Builder out = new Builder(2 * (end - begin) + 8);
    boolean afterSpace = model.removesExtraSpaces;
    boolean started = false;
    byte[] utf8 = new byte[4 * (end - begin)];
    int[] place = new int[utf8.length + 1];
    int n = encode(chars, begin, end, utf8, place);
    for (int at = 0; at < n; ) {
      long match = longest(utf8, at, n);
      int length = match < 0 ? characterLength(utf8[at]) : (int) (match >>> 32);
      String text = match < 0 ? new String(utf8, at, length, StandardCharsets.UTF_8) : text((int) match);
      for (int i = 0; i < text.length(); i++) {
        char c = text.charAt(i);
        if (c == ' ' && afterSpace) {
          continue;
        }
        if (!started && model.addsSpaceInFront) {
          out.add(model.escapesSpaces ? WordRule.SPACE : ' ', place[at]);
        }
        started = true;
        out.add(c == ' ' && model.escapesSpaces ? WordRule.SPACE : c, place[at]);
        afterSpace = c == ' ' && model.removesExtraSpaces;
      }
      at += length;
    }
    char space = model.escapesSpaces ? WordRule.SPACE : ' ';
    int past = end;
    while (model.removesExtraSpaces && out.size > 0 && out.chars[out.size - 1] == space) {
      past = out.origin[--out.size];
    }
    return out.take(past);
  }

  private static int encode(char[] chars, int begin, int end, byte[] utf8, int[] place) {
    int n = 0;
    for (int i = begin; i < end; ) {
      int units = CharKind.units(chars, i, end);
      byte[] bytes = new String(chars, i, units).getBytes(StandardCharsets.UTF_8);
      for (byte b : bytes) {
        place[n] = i;
        utf8[n++] = b;
      }
      i += units;
    }
    place[n] = end;
    return n;
  }

  private static int characterLength(byte first) {
    return first >= 0 ? 1 : (first & 0xE0) == 0xC0 ? 2 : (first & 0xF0) == 0xE0 ? 3 : 4;
  }

  /** Length in the upper half and the place of the new text in the lower, or -1. */
  private long longest(byte[] utf8, int from, int end) {
    if (trie.length == 0) {
      return -1;
    }
    long found = -1;
    int node = offset(trie[0]);
    for (int i = from; i < end; i++) {
      node ^= utf8[i] & 0xFF;
      if (node < 0 || node >= trie.length || (trie[node] & 0x800000FF) != (utf8[i] & 0xFF)) {
        break;
      }
      int unit = trie[node];
      node ^= offset(unit);
      if ((unit >>> 8 & 1) == 1 && node >= 0 && node < trie.length) {
        int at = trie[node] & 0x7FFFFFFF;
        // A match ends where a character does, or the rest could not be read.
        boolean whole = i + 1 == end || (utf8[i + 1] & 0xC0) != 0x80;
        found = whole && at < texts.length ? (long) (i + 1 - from) << 32 | at : found;
      }
    }
    return found;
  }

  private static int offset(int unit) {
    return unit >>> 10 << ((unit & 1 << 9) >>> 6);
  }

  private String text(int at) {
    int end = at;
    while (end < texts.length && texts[end] != 0) {
      end++;
    }
    return new String(texts, at, end - at, StandardCharsets.UTF_8);
  }

  private static final class Builder {
    private char[] chars;
    private int[] origin;
    private int size;

    Builder(int room) {
      chars = new char[room];
      origin = new int[room];
    }

    void add(char c, int from) {
      if (size == chars.length) {
        chars = Arrays.copyOf(chars, 2 * size);
        origin = Arrays.copyOf(origin, 2 * size);
      }
      chars[size] = c;
      origin[size++] = from;
    }

    Normalized take(int end) {
      int[] places = Arrays.copyOf(origin, size + 1);
      places[size] = end;
      return new Normalized(chars, size, places);
    }
  }
}
