package dev.oribi.text;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.huggingface.tokenizers.jni.CharSpan;
import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;

/**
 * The tokenizer of a model folder: text to token ids and back, exactly as Hugging Face's {@code tokenizers} does it,
 * because that library does the work. Nothing is ever cut or padded.
 *
 * <p>It reads {@code tokenizer.json}; the special tokens come from {@code tokenizer_config.json}, then
 * {@code special_tokens_map.json}, then {@code generation_config.json}. The files are checked before the native library
 * sees them. Safe for use by many threads; {@link #close()} frees native memory and ends all use.
 */
public final class Tokenizer implements AutoCloseable {
  private static final String TOKENIZER_JSON = "tokenizer.json";

  static {
    // The library otherwise asks the cloud metadata address of the machine, once a process, to count its users.
    System.setProperty("OPT_OUT_TRACKING", "true");
    // Where it finds an NVIDIA card it would download a build of its own for it; the one in the jar is all we need.
    System.setProperty("RUST_FLAVOR", "cpu");
  }

  private final Path folder;
  private final HuggingFaceTokenizer library;

  /** Calls share it, close() takes it alone: the library would read freed memory, and end the process, if one came late. */
  private final ReadWriteLock open = new ReentrantReadWriteLock();

  private boolean closed;
  private final Map<String, Integer> ids;
  private final String[] tokens;
  private final SpecialTokens special;
  private final String fingerprint;

  private Tokenizer(Path folder, HuggingFaceTokenizer library, Map<String, Integer> ids, SpecialTokens special,
      String fingerprint) {
    this.folder = folder;
    this.library = library;
    this.ids = ids;
    this.tokens = new String[ids.values().stream().mapToInt(Integer::intValue).max().orElse(-1) + 1];
    ids.forEach((token, id) -> tokens[id] = token);
    this.special = special;
    this.fingerprint = fingerprint;
  }

  /** Whether the folder holds a {@code tokenizer.json}. */
  public static boolean exists(Path modelFolder) {
    return Files.isRegularFile(modelFolder.resolve(TOKENIZER_JSON));
  }

  /**
   * Loads the tokenizer of a model folder.
   *
   * @throws OribiException if {@code tokenizer.json} is missing or broken
   */
  public static Tokenizer load(Path modelFolder) {
    Path file = modelFolder.resolve(TOKENIZER_JSON);
    if (!exists(modelFolder)) {
      throw new OribiException("No tokenizer.json in " + modelFolder
          + ": copy the one that belongs to the model, or give data that is already tokenized (input_ids).");
    }
    byte[] bytes = JsonFiles.readBytes(file);
    JsonNode json = JsonFiles.parse(file, bytes);
    Map<String, Integer> ids = TokenizerJson.vocabulary(file, json);
    SpecialTokens special = SpecialTokens.read(modelFolder, ids);
    return new Tokenizer(modelFolder, open(file, bytes), ids, special, JsonFiles.fingerprint(modelFolder));
  }

  private static HuggingFaceTokenizer open(Path file, byte[] bytes) {
    // Without these two options the library cuts every text at 512 tokens.
    Map<String, String> whole = Map.of("truncation", "false", "padding", "false");
    try {
      return HuggingFaceTokenizer.newInstance(new ByteArrayInputStream(bytes), whole);
    } catch (IOException | RuntimeException e) {
      throw new OribiException("The tokenizer library cannot read " + file + ": " + e.getMessage()
          + "; download the file again.", e);
    }
  }

  /** The ids of the text; with {@code addSpecialTokens} also those that the tokenizer puts around every text. */
  public int[] encode(String text, boolean addSpecialTokens) {
    return toInts(call(() -> library.encode(text, addSpecialTokens, false)).getIds());
  }

  /** Like {@link #encode}, with the characters that each token stands for. */
  public Encoding encodeWithOffsets(String text, boolean addSpecialTokens) {
    ai.djl.huggingface.tokenizers.Encoding encoding =
        call(() -> library.encode(text, addSpecialTokens, false));
    CharSpan[] spans = encoding.getCharTokenSpans();
    int[] begin = new int[spans.length];
    int[] end = new int[spans.length];
    int[] unit = codePointToUnit(text);
    for (int i = 0; i < spans.length; i++) {
      begin[i] = spans[i] == null ? -1 : unit[spans[i].getStart()];
      end[i] = spans[i] == null ? -1 : unit[spans[i].getEnd()];
    }
    return new Encoding(toInts(encoding.getIds()), begin, end);
  }

  /** The library counts code points, Java counts UTF-16 units: entry i is where code point i begins. */
  private static int[] codePointToUnit(String text) {
    int[] unit = new int[text.codePointCount(0, text.length()) + 1];
    for (int i = 0, at = 0; i < unit.length; i++) {
      unit[i] = at;
      at += at < text.length() ? Character.charCount(text.codePointAt(at)) : 0;
    }
    return unit;
  }

  /** The text of the ids; an id outside the vocabulary is an error. */
  public String decode(int[] tokenIds, boolean skipSpecialTokens) {
    long[] wide = new long[tokenIds.length];
    for (int i = 0; i < wide.length; i++) {
      requireId(tokenIds[i]);
      wide[i] = tokenIds[i];
    }
    return call(() -> library.decode(wide, skipSpecialTokens));
  }

  /** One more than the largest id. The model's embedding may have more rows than that, for alignment. */
  public int vocabSize() {
    return tokens.length;
  }

  public OptionalInt bosTokenId() {
    return special.bos();
  }

  public OptionalInt eosTokenId() {
    return special.eos();
  }

  public OptionalInt padTokenId() {
    return special.pad();
  }

  /** The text of the beginning-of-sequence token, as chat templates want it. */
  public Optional<String> bosToken() {
    return text(special.bos());
  }

  /** The text of the end-of-sequence token, as chat templates want it. */
  public Optional<String> eosToken() {
    return text(special.eos());
  }

  private Optional<String> text(OptionalInt id) {
    return id.isPresent() ? Optional.of(token(id.getAsInt())) : Optional.empty();
  }

  /** The id of a token as it stands in the vocabulary ({@code "Ġthe"}, {@code "<|im_end|>"}). */
  public OptionalInt tokenId(String token) {
    Integer id = ids.get(token);
    return id == null ? OptionalInt.empty() : OptionalInt.of(id);
  }

  /** Whether an id below {@link #vocabSize} has a token: vocabularies may have gaps. */
  public boolean hasToken(int id) {
    return id >= 0 && id < tokens.length && tokens[id] != null;
  }

  /** The vocabulary's entry for an id. */
  public String token(int id) {
    requireId(id);
    return tokens[id];
  }

  private void requireId(int id) {
    if (!hasToken(id)) {
      throw new OribiException("Token id " + id + " is not in the vocabulary of " + folder.resolve(TOKENIZER_JSON)
          + ": ids go from 0 to " + (tokens.length - 1) + ".");
    }
  }

  /** A decoder for text that arrives token by token; special tokens have no text. */
  public StreamDecoder streamDecoder() {
    return streamDecoder(true);
  }

  /** A decoder for text that arrives token by token. */
  public StreamDecoder streamDecoder(boolean skipSpecialTokens) {
    return new StreamDecoder(this, skipSpecialTokens);
  }

  /** SHA-256 (hex) of the tokenizer's files: two folders with the same one tokenize alike. */
  public String fingerprint() {
    return fingerprint;
  }

  private <T> T call(Supplier<T> work) {
    open.readLock().lock();
    try {
      if (closed) {
        throw new IllegalStateException("the tokenizer of " + folder + " is closed");
      }
      return work.get();
    } finally {
      open.readLock().unlock();
    }
  }

  /** Waits for the calls that are under way. */
  @Override
  public void close() {
    open.writeLock().lock();
    try {
      closed = true;
      library.close();
    } finally {
      open.writeLock().unlock();
    }
  }

  private static int[] toInts(long[] wide) {
    int[] narrow = new int[wide.length];
    for (int i = 0; i < wide.length; i++) {
      narrow[i] = Math.toIntExact(wide[i]);
    }
    return narrow;
  }
}
