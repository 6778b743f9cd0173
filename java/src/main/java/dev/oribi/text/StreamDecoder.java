package dev.oribi.text;

import java.util.Arrays;

/**
 * Text of tokens that arrive one at a time, for printing while a model generates.
 *
 * <p>A character may be spread over several tokens, and what a token prints may depend on the one before it (a leading
 * space). So each token is decoded together with those of the last piece of text, and a piece is held back while it ends
 * in the replacement character, the sign of an unfinished one. Not safe for use by several threads.
 */
public final class StreamDecoder {
  private static final char REPLACEMENT = '\uFFFD';
  /** Bytes that never become a character are given out after this many tokens, so that the window stays small. */
  private static final int MAX_PENDING = 32;

  private final Tokenizer tokenizer;
  private final boolean skipSpecialTokens;
  private int[] window = new int[8];
  private int size;
  /** Tokens of the window whose text was given out; they only serve as context. */
  private int printed;

  StreamDecoder(Tokenizer tokenizer, boolean skipSpecialTokens) {
    this.tokenizer = tokenizer;
    this.skipSpecialTokens = skipSpecialTokens;
  }

  /** Adds a token; returns the text that it completes, or the empty string. */
  public String push(int id) {
    if (size == window.length) {
      window = Arrays.copyOf(window, 2 * size);
    }
    window[size++] = id;
    String text = newText();
    boolean unfinished = text.isEmpty() || text.charAt(text.length() - 1) == REPLACEMENT;
    return unfinished && size - printed < MAX_PENDING ? "" : give(text);
  }

  /** What was held back: call it once, after the last token. */
  public String flush() {
    return give(newText());
  }

  private String newText() {
    String before = tokenizer.decode(Arrays.copyOf(window, printed), skipSpecialTokens);
    String all = tokenizer.decode(Arrays.copyOf(window, size), skipSpecialTokens);
    return all.length() > before.length() ? all.substring(before.length()) : "";
  }

  private String give(String text) {
    System.arraycopy(window, printed, window, 0, size - printed);
    size -= printed;
    printed = size;
    return text;
  }
}
