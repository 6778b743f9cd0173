package dev.oribi.text;

import dev.oribi.OribiException;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;

/**
 * Byte-pair encoding in Java, exactly as Hugging Face's library does it and several times as fast: words seen before come from a
 * cache that no two threads share. What it does not decide by itself (text that Unicode's NFC would change, characters newer than
 * this Java) the library does, where there is one.
 */
final class BytePairEngine implements TokenizerEngine {
  /** Below it no character changes under NFC. */
  private static final char FIRST_COMBINING = 0x300;

  /** How a text becomes what is cut into words. */
  enum Spaces {
    /** As it is. */
    KEPT,
    /** Spaces become signs, and one more stands in front of each part between added tokens. */
    SIGN_IN_FRONT,
    /** Spaces become signs, and one stands in front of the text unless it begins with one or with an added token. */
    SIGN_AT_BEGINNING,
    /** Spaces become signs. */
    SIGNS
  }

  /**
   * Everything that a file says.
   *
   * @param map SentencePiece's normalizer, which then does what {@code spaces} says; null: none
   * @param tokens by id
   * @param special ids that {@code skipSpecialTokens} leaves out
   * @param before ids in front of every text
   * @param after ids behind every text
   */
  record Settings(WordEncoder words, WordRule rule, Spaces spaces, CharacterMap map, boolean nfc, AddedTokens added, TextDecoder decoder, String[] tokens,
      Set<Integer> special, int[] before, int[] after) {}

  private static final class Scratch {
    final Merger merger;
    final WordCache cache = new WordCache();
    char[] signs = new char[0];

    Scratch(PairTable pairs) {
      merger = new Merger(pairs);
    }
  }

  private final Settings s;
  private final ThreadLocal<Scratch> scratch;
  private final Supplier<TokenizerEngine> fallback;
  private TokenizerEngine library;

  /** @param fallback opens the library for the same file; null if it cannot read it */
  BytePairEngine(Settings settings, Supplier<TokenizerEngine> fallback) {
    this.s = settings;
    this.fallback = fallback;
    this.scratch = ThreadLocal.withInitial(() -> new Scratch(pairsOf(settings.words())));
  }

  private static PairTable pairsOf(WordEncoder words) {
    return words instanceof BytePairs bytePairs ? bytePairs.pairs() : new PairTable(0);
  }

  @Override
  public Encoding encode(String text, boolean special, boolean offsets) {
    char[] chars = text.toCharArray();
    if (!decides(text, chars) && fallback != null) {
      return library().encode(text, special, offsets);
    }
    TokenBuffer out = new TokenBuffer(offsets);
    if (special) {
      out.addAll(s.before());
    }
    Scratch own = scratch.get();
    for (int at = 0; at < chars.length; ) {
      AddedTokens.Match match = s.added().find(chars, at, chars.length);
      int end = match == null ? chars.length : match.begin();
      if (end > at) {
        part(chars, at, end, own, out);
      }
      if (match != null) {
        out.add(match.id(), match.begin(), match.end());
      }
      at = match == null ? end : match.end();
    }
    if (special) {
      out.addAll(s.after());
    }
    return out.take();
  }

  /** Whether the result cannot depend on the version of Unicode, nor on what NFC changes. */
  private boolean decides(String text, char[] chars) {
    boolean plain = true;
    boolean byKind = s.rule() != WordRule.WHOLE && s.rule() != WordRule.SPACE_SIGN;
    for (int i = 0; i < chars.length; i++) {
      if (chars[i] >= FIRST_COMBINING) {
        byte kind = CharKind.at(chars, i, chars.length);
        if (kind == CharKind.SURROGATE) {
          throw halfCharacter(i);
        }
        if (kind == CharKind.UNKNOWN && (byKind || s.nfc())) {
          return false;
        }
        i += CharKind.units(chars, i, chars.length) - 1;
        plain = false;
      }
    }
    return plain || !s.nfc() || Normalizer.isNormalized(text, Normalizer.Form.NFC);
  }

  static OribiException halfCharacter(int at) {
    return new OribiException("The text has half a character (a surrogate without its pair) at place " + at
        + ", which no tokenizer can read: remove it.");
  }

  private void part(char[] chars, int begin, int end, Scratch own, TokenBuffer out) {
    if (s.map() != null) {
      CharacterMap.Normalized text = s.map().apply(chars, begin, end);
      words(text.chars(), 0, text.length(), text.origin(), 0, own, out);
      return;
    }
    if (s.spaces() == Spaces.KEPT) {
      words(chars, begin, end, null, 0, own, out);
      return;
    }
    boolean starts = chars[begin] == ' ' || chars[begin] == WordRule.SPACE;
    boolean sign = s.spaces() == Spaces.SIGN_IN_FRONT || s.spaces() == Spaces.SIGN_AT_BEGINNING && begin == 0 && !starts;
    int extra = sign ? 1 : 0;
    int length = end - begin + extra;
    if (own.signs.length < length) {
      own.signs = new char[Math.max(length, Math.min(2 * own.signs.length, 1 << 20))];
    }
    own.signs[0] = WordRule.SPACE;
    for (int i = begin; i < end; i++) {
      own.signs[i - begin + extra] = chars[i] == ' ' ? WordRule.SPACE : chars[i];
    }
    words(own.signs, 0, length, sign ? origin(begin, length) : null, begin, own, out);
  }

  /** The sign in front belongs to the first character of the text. */
  private static int[] origin(int begin, int length) {
    int[] origin = new int[length + 1];
    for (int i = 0; i <= length; i++) {
      origin[i] = begin + Math.max(0, i - 1);
    }
    return origin;
  }

  private void words(char[] text, int begin, int end, int[] origin, int shift, Scratch own, TokenBuffer out) {
    for (int i = begin; i < end; ) {
      int j = s.rule().end(text, i, end);
      word(text, i, j, origin, shift, own, out);
      i = j;
    }
  }

  private void word(char[] text, int i, int j, int[] origin, int shift, Scratch own, TokenBuffer out) {
    if (j - i > WordCache.LONGEST) {
      s.words().encode(text, i, j, own.merger);
      out.addWord(own.merger.ids, own.merger.bytes, own.merger.size, text, i, j, origin, shift);
      return;
    }
    int place = WordCache.place(text, i, j);
    if (!own.cache.holds(place, text, i, j)) {
      s.words().encode(text, i, j, own.merger);
      own.cache.put(place, text, i, j, own.merger);
    }
    int[] ids = own.cache.ids(place);
    out.addWord(ids, own.cache.bytes(place), ids.length, text, i, j, origin, shift);
  }

  @Override
  public String decode(int[] ids, boolean skipSpecialTokens) {
    List<String> tokens = new ArrayList<>(ids.length);
    for (int id : ids) {
      if (!skipSpecialTokens || !s.special().contains(id)) {
        tokens.add(s.tokens()[id]);
      }
    }
    return s.decoder().decode(tokens);
  }

  private synchronized TokenizerEngine library() {
    if (library == null) {
      library = fallback.get();
    }
    return library;
  }

  @Override
  public synchronized void close() {
    if (library != null) {
      library.close();
    }
  }
}
