package dev.oribi.text;

import dev.oribi.OribiException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.Supplier;

/**
 * The tokenizer of a model folder: text to token ids and back, exactly as Hugging Face's {@code tokenizers} and SentencePiece do
 * it. Nothing is ever cut or padded.
 *
 * <p>It reads {@code tokenizer.json}, else SentencePiece's {@code tokenizer.model}, else {@code vocab.json} with {@code
 * merges.txt}; the special tokens come from {@code tokenizer_config.json}, then {@code special_tokens_map.json}, then {@code
 * generation_config.json}. What is usual is done in Java; other files are read by Hugging Face's library, which sees them only
 * after they were checked. Safe for use by many threads; {@link #close()} frees native memory and ends all use.
 */
public final class Tokenizer implements AutoCloseable {
  private final Path folder;
  private final Path file;
  private final TokenizerEngine engine;
  private final String reader;

  /** Calls share it, close() takes it alone: the library would read freed memory, and end the process, if one came late. */
  private final ReadWriteLock open = new ReentrantReadWriteLock();

  private boolean closed;
  private final Map<String, Integer> ids;
  private final String[] tokens;
  private final SpecialTokens special;
  private final Set<Integer> added;
  private final String fingerprint;

  private Tokenizer(Path folder, TokenizerFiles files, SpecialTokens special, String fingerprint) {
    this.folder = folder;
    this.file = files.file();
    this.engine = files.engine();
    this.reader = files.reader();
    this.ids = files.ids();
    this.tokens = BytePairJson.byId(ids);
    this.special = special;
    this.added = files.added();
    this.fingerprint = fingerprint;
  }

  /** Whether the folder holds a tokenizer. */
  public static boolean exists(Path modelFolder) {
    return TokenizerFiles.exist(modelFolder);
  }

  /**
   * Loads the tokenizer of a model folder.
   *
   * @throws OribiException if there is none or it is broken
   */
  public static Tokenizer load(Path modelFolder) {
    return load(modelFolder, true);
  }

  /** Loads it only if Oribi encodes by itself: for files that must not reach native code. */
  public static Tokenizer loadWithoutLibrary(Path modelFolder) {
    return load(modelFolder, false);
  }

  private static Tokenizer load(Path modelFolder, boolean library) {
    TokenizerFiles files = TokenizerFiles.open(modelFolder, library);
    try {
      SpecialTokens special = SpecialTokens.read(modelFolder, files);
      return new Tokenizer(modelFolder, files, special, JsonFiles.fingerprint(modelFolder));
    } catch (RuntimeException e) {
      files.engine().close();
      throw e;
    }
  }

  /** The ids of the text; with {@code addSpecialTokens} also those that the tokenizer puts around every text. */
  public int[] encode(String text, boolean addSpecialTokens) {
    return call(() -> engine.encode(text, addSpecialTokens, false)).ids();
  }

  /** Like {@link #encode}, with the characters that each token stands for. */
  public Encoding encodeWithOffsets(String text, boolean addSpecialTokens) {
    return call(() -> engine.encode(text, addSpecialTokens, true));
  }

  /** The text of the ids; an id outside the vocabulary is an error. */
  public String decode(int[] tokenIds, boolean skipSpecialTokens) {
    for (int id : tokenIds) {
      requireId(id);
    }
    return call(() -> engine.decode(tokenIds, skipSpecialTokens));
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

  /**
   * Tokens that end what a model says: the end-of-sequence token, and all that {@code generation_config.json} stops at.
   */
  public Set<Integer> endTokenIds() {
    return special.ends();
  }

  /** Whether the token is one that stands beside the vocabulary of words, such as {@code <|im_end|>}. */
  public boolean isAdded(int id) {
    return added.contains(id);
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

  /** What transformers gives every chat template: {@code bos_token}, {@code eos_token} and what else the folder names. */
  public Map<String, Object> templateVariables() {
    Map<String, Object> variables = new HashMap<>(special.others());
    bosToken().ifPresent(token -> variables.put("bos_token", token));
    eosToken().ifPresent(token -> variables.put("eos_token", token));
    return variables;
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
      throw new OribiException("Token id " + id + " is not in the vocabulary of " + file
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

  /** Who encodes, for people: Oribi itself, or Hugging Face's library and why. */
  public String reader() {
    return reader;
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
      engine.close();
    } finally {
      open.writeLock().unlock();
    }
  }
}
