package dev.oribi.text;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;

/** Tokens back to text: by GPT-2's letters for bytes, or by SentencePiece's signs. Bytes that are no UTF-8 become U+FFFD. */
final class TextDecoder {
  private final boolean byteLevel;
  private final boolean dropsFirstSpace;

  TextDecoder(boolean byteLevel, boolean dropsFirstSpace) {
    this.byteLevel = byteLevel;
    this.dropsFirstSpace = dropsFirstSpace;
  }

  String decode(Iterable<String> tokens) {
    return byteLevel ? bytes(tokens) : pieces(tokens);
  }

  private static String bytes(Iterable<String> tokens) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (String token : tokens) {
      byte[] bytes = bytesOf(token);
      out.write(bytes, 0, bytes.length);
    }
    return Utf8.lossy(out.toByteArray(), out.size());
  }

  private static byte[] bytesOf(String token) {
    byte[] bytes = new byte[token.length()];
    for (int i = 0; i < bytes.length; i++) {
      int b = BytePairs.byteOf(token.charAt(i));
      if (b < 0) {
        // An added token, which is not written in letters for bytes.
        return token.getBytes(StandardCharsets.UTF_8);
      }
      bytes[i] = (byte) b;
    }
    return bytes;
  }

  private String pieces(Iterable<String> tokens) {
    StringBuilder out = new StringBuilder();
    ByteArrayOutputStream pending = new ByteArrayOutputStream();
    for (String token : tokens) {
      int b = byteToken(token);
      if (b >= 0) {
        pending.write(b);
      } else {
        flush(pending, out);
        out.append(token.replace(WordRule.SPACE, ' '));
      }
    }
    flush(pending, out);
    return dropsFirstSpace && out.length() > 0 && out.charAt(0) == ' ' ? out.substring(1) : out.toString();
  }

  /** The byte of a token such as {@code <0x0A>}, or -1. */
  static int byteToken(String token) {
    if (token.length() != 6 || !token.startsWith("<0x") || token.charAt(5) != '>') {
      return -1;
    }
    int high = Character.digit(token.charAt(3), 16);
    int low = Character.digit(token.charAt(4), 16);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
  }

  private static void flush(ByteArrayOutputStream pending, StringBuilder out) {
    if (pending.size() == 0) {
      return;
    }
    try {
      out.append(StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(pending.toByteArray())));
    } catch (CharacterCodingException e) {
      out.append("\uFFFD".repeat(pending.size()));
    }
    pending.reset();
  }
}
