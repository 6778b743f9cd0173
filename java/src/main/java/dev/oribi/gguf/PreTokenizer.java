package dev.oribi.gguf;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * How text is cut before byte pairs are merged: tokenizer.json says it with regular expressions, GGUF with a name for which
 * llama.cpp has the expressions built in. What is not in this table is refused, because the wrong name would give other tokens
 * without a word.
 */
enum PreTokenizer {
  GPT2("gpt-2", List.of(), false, false, false),
  /** Digits one by one, then as GPT-2. */
  SMOLLM("smollm", List.of(), true, false, false),
  LLAMA3("llama-bpe", List.of(Regex.LLAMA3), false, false, true),
  QWEN2("qwen2", List.of(Regex.QWEN2), false, true, false),
  /**
   * Mistral Nemo and Small 3. For llama.cpp every letter but a to z is a capital too, and a letter is not joined with its marks: camel case
   * beyond ASCII and scripts with combining marks may be cut elsewhere there.
   */
  TEKKEN("tekken", List.of(Regex.TEKKEN), false, false, true),
  /** Phi-4: cut as Llama 3's, and merged from the start. */
  DBRX("dbrx", List.of(Regex.LLAMA3), false, false, false),
  /** Phi-4 mini. What is said of {@link #TEKKEN} holds here too. */
  GPT_4O("gpt-4o", List.of(Regex.GPT_4O), false, false, false),
  /** DeepSeek V3 and R1: digits by threes, then Chinese and Japanese, then the rest. */
  DEEPSEEK_V3("deepseek-v3", List.of("\\p{N}{1,3}", Regex.CJK, Regex.DEEPSEEK_V3), false, false, false);

  /** Constants cannot be named before those of the enum. */
  private static final class Regex {
    private static final String SPACES = "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    private static final String ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    private static final String CAPITALS = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
    private static final String SMALL = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
    private static final String BEFORE = "[^\\r\\n\\p{L}\\p{N}]?";

    static final String LLAMA3 = ENDINGS + "|" + BEFORE + "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" + SPACES;
    static final String QWEN2 = ENDINGS + "|" + BEFORE + "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" + SPACES;
    static final String TEKKEN = BEFORE + CAPITALS + "*" + SMALL + "+|" + BEFORE + CAPITALS + "+" + SMALL + "*|\\p{N}"
        + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" + SPACES;
    static final String GPT_4O = BEFORE + CAPITALS + "*" + SMALL + "+" + ENDINGS + "?|" + BEFORE + CAPITALS + "+" + SMALL + "*" + ENDINGS
        + "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" + SPACES;
    static final String CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
    /** With a carriage return and a line feed where the others have their names. */
    static final String DEEPSEEK_V3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        + "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
  }

  private final String ggufName;
  private final List<String> splits;
  private final boolean digits;
  private final boolean nfc;
  private final boolean ignoreMerges;

  /**
   * @param splits regular expressions, one after the other; none: that of GPT-2, which ByteLevel has built in
   * @param digits whether digits are cut off one by one before
   * @param nfc whether characters are composed first
   */
  PreTokenizer(String ggufName, List<String> splits, boolean digits, boolean nfc, boolean ignoreMerges) {
    this.ggufName = ggufName;
    this.splits = splits;
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

  /** Names that llama.cpp takes for another one in every respect. */
  private static final Map<String, PreTokenizer> ALSO = Map.of("llama3", LLAMA3, "llama-v3", LLAMA3, "falcon3", LLAMA3, "deepseek-r1-qwen", QWEN2);

  static PreTokenizer ofName(String name, String where) {
    return Arrays.stream(values()).filter(p -> p.ggufName.equals(name) || ALSO.get(name) == p).findFirst().orElseThrow(() -> new OribiException(
        where + " " + Json.shorten(name) + " is not supported; supported: " + Arrays.stream(values()).map(PreTokenizer::ggufName).toList()));
  }

  /** The entry that a tokenizer.json is. */
  static PreTokenizer of(JsonNode tokenizer, String where) {
    return Arrays.stream(values()).filter(p -> p.matches(tokenizer)).findFirst().orElseThrow(() -> new OribiException(
        where + ": llama.cpp has no name for this pre_tokenizer that Oribi knows, so that the tokens would differ; known: "
            + Arrays.stream(values()).map(PreTokenizer::ggufName).toList()));
  }

  private boolean matches(JsonNode tokenizer) {
    ObjectNode ours = Json.object();
    putInto(ours);
    return steps(tokenizer).equals(steps(ours))
        && normalizer(tokenizer).equals(normalizer(ours))
        && tokenizer.path("model").path("ignore_merges").asBoolean() == ignoreMerges;
  }

  /** An empty sequence is none. */
  private static String normalizer(JsonNode tokenizer) {
    JsonNode normalizer = tokenizer.path("normalizer");
    boolean none = normalizer.path("type").asText().equals("Sequence") && normalizer.path("normalizers").isEmpty();
    return none ? "" : normalizer.path("type").asText("");
  }

  /** Each step of a pre_tokenizer with what decides about its cuts; unknown ones as they are, which no entry has. */
  private static List<String> steps(JsonNode tokenizer) {
    JsonNode pre = tokenizer.path("pre_tokenizer");
    List<String> steps = new ArrayList<>();
    for (JsonNode step : pre.path("type").asText().equals("Sequence") ? pre.path("pretokenizers") : List.of(pre)) {
      steps.add(switch (step.path("type").asText()) {
        case "Split" -> "Split " + step.path("pattern").path("Regex").asText() + " " + step.path("behavior").asText() + step.path("invert").asBoolean();
        case "Digits" -> "Digits " + step.path("individual_digits").asBoolean();
        case "ByteLevel" -> "ByteLevel " + step.path("add_prefix_space").asBoolean() + step.path("use_regex").asBoolean(true);
        default -> step.toString();
      });
    }
    return steps;
  }

  /** The pre_tokenizer and normalizer of a tokenizer.json. */
  void putInto(ObjectNode tokenizer) {
    tokenizer.set("normalizer", nfc ? Json.object().put("type", "NFC") : null);
    ObjectNode byteLevel = Json.object().put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true)
        .put("use_regex", splits.isEmpty());
    if (splits.isEmpty() && !digits) {
      tokenizer.set("pre_tokenizer", byteLevel);
      return;
    }
    ObjectNode pre = tokenizer.putObject("pre_tokenizer").put("type", "Sequence");
    ArrayNode parts = pre.putArray("pretokenizers");
    if (digits) {
      parts.addObject().put("type", "Digits").put("individual_digits", true);
    }
    for (String split : splits) {
      parts.addObject().put("type", "Split").put("behavior", "Isolated").put("invert", false).putObject("pattern").put("Regex", split);
    }
    parts.add(byteLevel);
  }
}
