package dev.oribi.gguf;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.Arrays;
import java.util.Optional;

/**
 * How text is cut before byte pairs are merged: tokenizer.json says it with regular expressions, GGUF with a name for which
 * llama.cpp has the expressions built in. What is not in this table is refused, because the wrong name would give other tokens
 * without a word.
 */
enum PreTokenizer {
  GPT2("gpt-2", null, false, false, false),
  /** Digits one by one, then as GPT-2. */
  SMOLLM("smollm", null, true, false, false),
  LLAMA3("llama-bpe", Regex.LLAMA3, false, false, true),
  QWEN2("qwen2", Regex.QWEN2, false, true, false),
  /**
   * Mistral Nemo and Small 3. For llama.cpp every letter but a to z is a capital too, and a letter is not joined with its marks: camel case
   * beyond ASCII and scripts with combining marks may be cut elsewhere there.
   */
  TEKKEN("tekken", Regex.TEKKEN, false, false, true);

  /** Constants cannot be named before those of the enum. */
  private static final class Regex {
    static final String LLAMA3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        + "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    static final String QWEN2 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        + "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    static final String TEKKEN = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
        + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}"
        + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  }

  private final String ggufName;
  private final String regex;
  private final boolean digits;
  private final boolean nfc;
  private final boolean ignoreMerges;

  PreTokenizer(String ggufName, String regex, boolean digits, boolean nfc, boolean ignoreMerges) {
    this.ggufName = ggufName;
    this.regex = regex;
    this.digits = digits;
    this.nfc = nfc;
    this.ignoreMerges = ignoreMerges;
  }

  /** {@code tokenizer.ggml.pre} */
  String ggufName() {
    return ggufName;
  }

  /** A token that is a whole piece of text is taken as it is, without its merges. */
  boolean ignoreMerges() {
    return ignoreMerges;
  }

  static PreTokenizer ofName(String name, String where) {
    return Arrays.stream(values()).filter(p -> p.ggufName.equals(name)).findFirst().orElseThrow(() -> new OribiException(
        where + " " + Json.shorten(name) + " is not supported; supported: " + Arrays.stream(values()).map(PreTokenizer::ggufName).toList()));
  }

  /** The entry that a tokenizer.json is. */
  static PreTokenizer of(JsonNode tokenizer, String where) {
    return Arrays.stream(values()).filter(p -> p.matches(tokenizer)).findFirst().orElseThrow(() -> new OribiException(
        where + ": llama.cpp has no name for this pre_tokenizer that Oribi knows, so that the tokens would differ; known: "
            + Arrays.stream(values()).map(PreTokenizer::ggufName).toList()));
  }

  private boolean matches(JsonNode tokenizer) {
    JsonNode pre = tokenizer.path("pre_tokenizer");
    boolean sequence = pre.path("type").asText().equals("Sequence");
    JsonNode parts = pre.path("pretokenizers");
    JsonNode last = sequence ? parts.path(parts.size() - 1) : pre;
    if (!last.path("type").asText().equals("ByteLevel") || last.path("add_prefix_space").asBoolean()) {
      return false;
    }
    JsonNode first = sequence && parts.size() == 2 ? parts.get(0) : null;
    boolean known = sequence ? first != null : true;
    boolean sameDigits = digits == (first != null && first.path("type").asText().equals("Digits") && first.path("individual_digits").asBoolean());
    Optional<String> split = first != null && first.path("type").asText().equals("Split")
        ? Optional.of(first.path("pattern").path("Regex").asText()) : Optional.empty();
    boolean sameSplit = split.equals(Optional.ofNullable(regex));
    boolean sameUse = last.path("use_regex").asBoolean(true) == (regex == null);
    String normalizer = tokenizer.path("normalizer").path("type").asText("");
    return known && sameDigits && sameSplit && sameUse && normalizer.equals(nfc ? "NFC" : "")
        && (digits || regex != null) == sequence;
  }

  /** The pre_tokenizer and normalizer of a tokenizer.json. */
  void putInto(ObjectNode tokenizer) {
    tokenizer.set("normalizer", nfc ? Json.object().put("type", "NFC") : null);
    ObjectNode byteLevel = Json.object().put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true)
        .put("use_regex", regex == null);
    if (regex == null && !digits) {
      tokenizer.set("pre_tokenizer", byteLevel);
      return;
    }
    ObjectNode pre = tokenizer.putObject("pre_tokenizer").put("type", "Sequence");
    ArrayNode parts = pre.putArray("pretokenizers");
    ObjectNode first = parts.addObject();
    if (digits) {
      first.put("type", "Digits").put("individual_digits", true);
    } else {
      first.put("type", "Split").put("behavior", "Isolated").put("invert", false).putObject("pattern").put("Regex", regex);
    }
    parts.add(byteLevel);
  }
}
