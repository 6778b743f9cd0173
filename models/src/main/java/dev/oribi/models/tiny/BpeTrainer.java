package dev.oribi.models.tiny;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Learns a byte-level byte-pair encoding, as GPT-2 and Llama 3 use: text is cut into words, each word into its UTF-8 bytes,
 * and the pair of neighbouring tokens that is most frequent becomes one token, again and again until the vocabulary is full.
 *
 * <p>Every byte is a token of its own, so any text can be encoded. Each byte is written as one visible character
 * ({@link #BYTE_TO_CHAR}), as {@code tokenizer.json} wants it: a space is {@code Ġ}. Ties go to the pair whose tokens are
 * older, so that the same text gives the same vocabulary.
 */
final class BpeTrainer {
  /** GPT-2's way to cut text into words, which Hugging Face's ByteLevel pre-tokenizer applies with {@code use_regex}. */
  private static final Pattern WORD =
      Pattern.compile(
          "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
          Pattern.UNICODE_CHARACTER_CLASS);

  private static final int MIN_FREQUENCY = 2;

  /** The visible character that stands for each byte: itself where it is visible, else the next one from U+0100 on. */
  static final char[] BYTE_TO_CHAR = byteToChar();

  /**
   * What was learned.
   *
   * @param tokens in order of their ids, special tokens first, then the bytes, then one for each merge
   * @param merges pairs of tokens, in the order in which they are to be merged
   */
  record Vocabulary(List<String> tokens, List<Merge> merges) {}

  record Merge(String left, String right) {}

  private record Pair(int left, int right) {}

  private static final class Word {
    private final long count;
    private int[] tokens;

    Word(long count, int[] tokens) {
      this.count = count;
      this.tokens = tokens;
    }
  }

  private final List<String> specialTokens;
  private final Map<String, Long> words = new LinkedHashMap<>();

  /** @param specialTokens get the first ids, in this order; they split the text and are never learned from */
  BpeTrainer(List<String> specialTokens) {
    this.specialTokens = List.copyOf(specialTokens);
  }

  /** Counts the words of a text. */
  void add(String text) {
    int begin = 0;
    Matcher special = specialPattern().matcher(text);
    while (special.find()) {
      count(text.substring(begin, special.start()));
      begin = special.end();
    }
    count(text.substring(begin));
  }

  private Pattern specialPattern() {
    return Pattern.compile(String.join("|", specialTokens.stream().map(Pattern::quote).toList()));
  }

  private void count(String text) {
    words(text).forEach(word -> words.merge(word, 1L, Long::sum));
  }

  /** The words into which a text without special tokens is cut; together they are the text. */
  static List<String> words(String text) {
    return WORD.matcher(text).results().map(MatchResult::group).toList();
  }

  /**
   * Learns merges from the words counted so far until there are {@code vocabSize} tokens or no pair is left that occurs
   * twice.
   */
  Vocabulary train(int vocabSize) {
    List<String> tokens = new ArrayList<>(specialTokens);
    int[] idOfByte = addBytes(tokens);
    List<Word> corpus = new ArrayList<>();
    words.forEach((word, count) -> corpus.add(new Word(count, ids(word, idOfByte))));
    List<Merge> merges = new ArrayList<>();
    while (tokens.size() < vocabSize) {
      Map.Entry<Pair, Long> best = mostFrequentPair(corpus);
      if (best == null || best.getValue() < MIN_FREQUENCY) {
        break;
      }
      Pair pair = best.getKey();
      Merge merge = new Merge(tokens.get(pair.left()), tokens.get(pair.right()));
      merges.add(merge);
      tokens.add(merge.left() + merge.right());
      for (Word word : corpus) {
        word.tokens = merged(word.tokens, pair, tokens.size() - 1);
      }
    }
    return new Vocabulary(List.copyOf(tokens), List.copyOf(merges));
  }

  /** Adds the 256 bytes in the order of their visible characters; returns their ids. */
  private static int[] addBytes(List<String> tokens) {
    int[] ids = new int[256];
    List<Integer> order = new ArrayList<>();
    for (int b = 0; b < 256; b++) {
      order.add(b);
    }
    order.sort(Comparator.comparingInt(b -> BYTE_TO_CHAR[b]));
    for (int b : order) {
      ids[b] = tokens.size();
      tokens.add(String.valueOf(BYTE_TO_CHAR[b]));
    }
    return ids;
  }

  private static int[] ids(String word, int[] idOfByte) {
    byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
    int[] ids = new int[bytes.length];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = idOfByte[bytes[i] & 0xff];
    }
    return ids;
  }

  private static Map.Entry<Pair, Long> mostFrequentPair(List<Word> corpus) {
    Map<Pair, Long> counts = new HashMap<>();
    for (Word word : corpus) {
      for (int i = 0; i + 1 < word.tokens.length; i++) {
        counts.merge(new Pair(word.tokens[i], word.tokens[i + 1]), word.count, Long::sum);
      }
    }
    Comparator<Map.Entry<Pair, Long>> byCount = Map.Entry.comparingByValue();
    Comparator<Map.Entry<Pair, Long>> older =
        Comparator.comparing(Map.Entry::getKey, Comparator.comparingInt(Pair::left).thenComparingInt(Pair::right));
    return counts.entrySet().stream().max(byCount.thenComparing(older.reversed())).orElse(null);
  }

  private static int[] merged(int[] tokens, Pair pair, int id) {
    int[] out = new int[tokens.length];
    int n = 0;
    for (int i = 0; i < tokens.length; i++) {
      boolean here = i + 1 < tokens.length && tokens[i] == pair.left() && tokens[i + 1] == pair.right();
      out[n++] = here ? id : tokens[i];
      i += here ? 1 : 0;
    }
    return n == tokens.length ? tokens : Arrays.copyOf(out, n);
  }

  private static char[] byteToChar() {
    char[] map = new char[256];
    char next = 0x100;
    for (int b = 0; b < 256; b++) {
      boolean visible = b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae;
      map[b] = visible ? (char) b : next++;
    }
    return map;
  }
}
