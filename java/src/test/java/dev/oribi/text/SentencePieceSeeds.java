package dev.oribi.text;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** Small SentencePiece models, written by hand: one of BPE with bytes, one unigram with a map of characters. */
public final class SentencePieceSeeds {
  private SentencePieceSeeds() {}

  /** Both models. */
  public static List<byte[]> all() {
    return List.of(model(SentencePieceFile.BPE, true, new byte[0]), model(SentencePieceFile.UNIGRAM, false, map()));
  }

  private static byte[] model(int type, boolean bytes, byte[] map) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    piece(out, "<unk>", 0, SentencePieceFile.UNKNOWN);
    piece(out, "<s>", 0, SentencePieceFile.CONTROL);
    piece(out, "</s>", 0, SentencePieceFile.CONTROL);
    for (int b = 0; bytes && b < 256; b++) {
      piece(out, String.format("<0x%02X>", b), 0, SentencePieceFile.BYTE);
    }
    String[] words = {"▁H", "el", "▁Hel", "lo", "▁", "H", "e", "l", "o", "w", "r", "d", "▁w", "or", "ld", "a", "aa"};
    for (int i = 0; i < words.length; i++) {
      piece(out, words[i], -1 - i, SentencePieceFile.NORMAL);
    }
    block(out, 2, new byte[] {3 << 3, (byte) type});
    ByteArrayOutputStream normalizer = new ByteArrayOutputStream();
    block(normalizer, 2, map);
    normalizer.writeBytes(new byte[] {3 << 3, 1, 4 << 3, (byte) (bytes ? 0 : 1), 5 << 3, 1});
    block(out, 3, normalizer.toByteArray());
    return out.toByteArray();
  }

  /** A map that is empty: a trie of one unit that leads nowhere, and one empty text. */
  private static byte[] map() {
    return ByteBuffer.allocate(9).order(ByteOrder.LITTLE_ENDIAN).putInt(4).putInt(1 << 10).put((byte) 0).array();
  }

  private static void piece(ByteArrayOutputStream out, String text, float score, int type) {
    ByteArrayOutputStream piece = new ByteArrayOutputStream();
    block(piece, 1, text.getBytes(StandardCharsets.UTF_8));
    piece.write(2 << 3 | 5);
    piece.writeBytes(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(score).array());
    piece.writeBytes(new byte[] {3 << 3, (byte) type});
    block(out, 1, piece.toByteArray());
  }

  private static void block(ByteArrayOutputStream out, int field, byte[] value) {
    out.write(field << 3 | 2);
    for (int n = value.length; ; n >>>= 7) {
      out.write(n < 128 ? n : n & 127 | 128);
      if (n < 128) {
        break;
      }
    }
    out.writeBytes(value);
  }
}
