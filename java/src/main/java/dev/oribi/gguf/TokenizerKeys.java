package dev.oribi.gguf;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * The tokenizer of a model folder as the keys of a GGUF file: byte pairs as {@code gpt2}, pieces of SentencePiece as {@code
 * llama}, and the chat template.
 *
 * <p>llama.cpp joins pieces of SentencePiece by scores, tokenizer.json by a list of merges in order; a piece's score here is
 * minus the place of the first merge that makes it, which asks for the same joins in the same order.
 */
public final class TokenizerKeys {
  static final String PREFIX = "tokenizer.ggml.";
  static final String TEMPLATE = "tokenizer.chat_template";
  private static final String FILE = "tokenizer.json";

  /** {@code general.name} */
  static final String NAME = "general.name";

  /** Texts in a name by which llama.cpp knows the tokenizer of Phi-3. */
  private static final Pattern PHI3 = Pattern.compile("(?i)phi-?3");

  /** Those that keep the white space behind them there; it ends if one of them, or {@code </s>}, is missing. */
  private static final Set<String> KEEP_IN_PHI3 = Set.of("<unk>", "<s>", "<|endoftext|>");

  /** Keys of further tokens that end a text. */
  static final List<String> OTHER_ENDS = List.of("eot_token_id", "eom_token_id");

  static final int NORMAL = 1;
  static final int UNKNOWN = 2;
  static final int CONTROL = 3;
  static final int USER_DEFINED = 4;
  static final int UNUSED = 5;
  static final int BYTE = 6;

  private final JsonNode json;
  private final String where;
  private final String[] tokens;
  private final int[] types;
  private final Map<String, Integer> ids = new HashMap<>();

  private TokenizerKeys(JsonNode json, String where, int vocabulary) {
    this.json = json;
    this.where = where;
    this.tokens = new String[vocabulary];
    this.types = new int[vocabulary];
  }

  /**
   * The keys in the order in which they are written.
   *
   * @param vocabulary rows of the embedding, which may be more than there are tokens
   * @param template how a conversation is written
   */
  public static Map<String, GgufValue> of(Path folder, int vocabulary, GenerationConfig generation, Optional<ChatTemplate> template) {
    Path file = folder.resolve(FILE);
    Map<String, GgufValue> keys = new LinkedHashMap<>();
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      new TokenizerKeys(Json.read(file), file.toString(), vocabulary).putAll(keys);
      putSpecial(keys, tokenizer, generation);
    }
    template.ifPresent(t -> keys.put(TEMPLATE, GgufValue.string(plain(t.source()))));
    return keys;
  }

  /**
   * The template without Hugging Face's marks of the assistant's part, which write nothing and which llama.cpp does not know;
   * what is cut away beside them stays cut away.
   */
  static String plain(String template) {
    return template.replaceAll("\\{%(-?)\\s*(?:end)?generation\\s*(-?)%\\}", "{{$1 '' $2}}");
  }

  static boolean saysPhi3(String name) {
    return PHI3.matcher(name).find();
  }

  static boolean stripsInPhi3(String token) {
    return !KEEP_IN_PHI3.contains(token);
  }

  /**
   * The {@code general.name} of a file, made from what the user calls it. There is no key for tokens that take the white space behind
   * them: llama.cpp lets all of Phi-3's do so, which it knows by this name.
   */
  public static GgufValue name(Path folder, String title) {
    boolean phi3 = isPhi3(addedTokens(folder));
    String name = phi3 == saysPhi3(title) ? title : phi3 ? "Phi-3 " + title : PHI3.matcher(title).replaceAll("phi_3");
    return GgufValue.string(name);
  }

  /** A sentence for the user where tokens take white space beside them and llama.cpp leaves it. */
  public static Optional<String> limit(Path folder) {
    JsonNode added = addedTokens(folder);
    List<String> taking = new ArrayList<>();
    for (JsonNode token : added) {
      if (token.path("lstrip").asBoolean() || token.path("rstrip").asBoolean()) {
        taking.add(token.path("content").asText());
      }
    }
    return taking.isEmpty() || isPhi3(added) ? Optional.empty() : Optional.of("GGUF has no key for tokens that take the white space beside"
        + " them, as " + Json.shorten(String.join(", ", taking)) + " do in this tokenizer: where a conversation has any there, llama.cpp keeps it.");
  }

  private static JsonNode addedTokens(Path folder) {
    return Json.read(folder.resolve(FILE)).path("added_tokens");
  }

  private static boolean isPhi3(JsonNode added) {
    Set<String> found = new HashSet<>();
    for (JsonNode token : added) {
      found.add(token.path("content").asText());
      if (token.path("lstrip").asBoolean() || token.path("rstrip").asBoolean() != stripsInPhi3(token.path("content").asText())) {
        return false;
      }
    }
    return found.containsAll(KEEP_IN_PHI3) && found.contains("</s>");
  }

  private void putAll(Map<String, GgufValue> keys) {
    JsonNode model = json.path("model");
    if (!model.path("type").asText("BPE").equals("BPE")) {
      throw new OribiException(where + ": a tokenizer of type " + model.path("type").asText() + " cannot be written as GGUF; BPE can");
    }
    boolean pieces = model.path("byte_fallback").asBoolean();
    PreTokenizer pre = pieces ? null : PreTokenizer.of(json, where);
    readTokens(pieces);
    keys.put(PREFIX + "model", GgufValue.string(pieces ? "llama" : "gpt2"));
    keys.put(PREFIX + "pre", GgufValue.string(pieces ? "default" : pre.ggufName()));
    keys.put(PREFIX + "tokens", GgufValue.strings(Arrays.asList(tokens)));
    if (pieces) {
      keys.put(PREFIX + "scores", GgufValue.f32s(scores()));
    }
    keys.put(PREFIX + "token_type", GgufValue.i32s(types));
    if (pieces) {
      keys.put(PREFIX + "add_space_prefix", GgufValue.bool(prependsSpace()));
    } else {
      keys.put(PREFIX + "merges", GgufValue.strings(merges()));
    }
  }

  private void readTokens(boolean pieces) {
    for (Map.Entry<String, JsonNode> e : json.path("model").path("vocab").properties()) {
      put(e.getKey(), e.getValue().asInt(-1), NORMAL);
    }
    String unknown = json.path("model").path("unk_token").asText("");
    for (JsonNode added : json.path("added_tokens")) {
      String content = added.path("content").asText();
      int type = content.equals(unknown) && pieces ? UNKNOWN : added.path("special").asBoolean() ? CONTROL : USER_DEFINED;
      put(content, added.path("id").asInt(-1), type);
    }
    for (int id = 0; id < tokens.length; id++) {
      if (tokens[id] == null) {
        put("[PAD" + id + "]", id, UNUSED);
      } else if (pieces && types[id] == NORMAL && tokens[id].matches("<0x[0-9A-F]{2}>")) {
        types[id] = BYTE;
      }
    }
  }

  private void put(String token, int id, int type) {
    if (id < 0 || id >= tokens.length) {
      throw new OribiException(where + ": the id " + id + " of token " + Json.shorten(token) + " is not below the vocabulary of "
          + tokens.length + " that config.json states");
    }
    tokens[id] = token;
    types[id] = type;
    ids.put(token, id);
  }

  private float[] scores() {
    float[] scores = new float[tokens.length];
    Arrays.fill(scores, Float.NaN);
    int rank = 0;
    for (JsonNode merge : json.path("model").path("merges")) {
      String[] pair = pair(merge);
      Integer id = ids.get(pair[0] + pair[1]);
      if (id != null && Float.isNaN(scores[id])) {
        scores[id] = -rank;
      }
      rank++;
    }
    for (int id = 0; id < scores.length; id++) {
      if (Float.isNaN(scores[id])) { // no merge makes it: single characters, bytes, control tokens
        scores[id] = types[id] == NORMAL || types[id] == USER_DEFINED ? -rank : 0;
      }
    }
    return scores;
  }

  /** "a b", or ["a", "b"] in newer files. */
  private String[] pair(JsonNode merge) {
    String[] pair = merge.isArray() ? new String[] {merge.path(0).asText(), merge.path(1).asText()} : merge.asText().split(" ", -1);
    if (pair.length != 2) {
      throw new OribiException(where + ": " + Json.shorten(merge.toString()) + " is no merge of two");
    }
    return pair;
  }

  private List<String> merges() {
    List<String> merges = new ArrayList<>();
    for (JsonNode merge : json.path("model").path("merges")) {
      String[] pair = pair(merge);
      if (pair[0].contains(" ") || pair[1].contains(" ")) {
        throw new OribiException(where + ": the merge " + Json.shorten(merge.toString()) + " has a space in it, which GGUF cannot say");
      }
      merges.add(pair[0] + " " + pair[1]);
    }
    return merges;
  }

  private boolean prependsSpace() {
    String text = Json.compact(json.path("normalizer")) + Json.compact(json.path("pre_tokenizer"));
    return text.contains("Prepend") || text.contains("\"prepend_scheme\":\"first\"") || text.contains("\"prepend_scheme\":\"always\"")
        || text.contains("\"add_prefix_space\":true");
  }

  /** What the tokenizer puts around a text is found by asking it. */
  private static void putSpecial(Map<String, GgufValue> keys, Tokenizer tokenizer, GenerationConfig generation) {
    int[] bare = tokenizer.encode("a", false);
    int[] around = tokenizer.encode("a", true);
    boolean begins = around.length > bare.length && tokenizer.bosTokenId().isPresent() && around[0] == tokenizer.bosTokenId().getAsInt();
    boolean ends = around.length > bare.length && tokenizer.eosTokenId().isPresent()
        && around[around.length - 1] == tokenizer.eosTokenId().getAsInt();
    if (around.length != bare.length + (begins ? 1 : 0) + (ends ? 1 : 0)) {
      throw new OribiException("the tokenizer puts " + Arrays.toString(around) + " around the text " + Arrays.toString(bare)
          + ", and GGUF has keys for the token that begins a text and the one that ends it alone");
    }
    tokenizer.bosTokenId().ifPresent(id -> keys.put(PREFIX + "bos_token_id", GgufValue.u32(id)));
    int eos = tokenizer.eosTokenId().orElse(generation.eosTokenIds().isEmpty() ? -1 : generation.eosTokenIds().get(0));
    if (eos >= 0) {
      keys.put(PREFIX + "eos_token_id", GgufValue.u32(eos));
    }
    List<Integer> others = generation.eosTokenIds().stream().filter(id -> id != eos).distinct().toList();
    for (int i = 0; i < Math.min(others.size(), OTHER_ENDS.size()); i++) {
      keys.put(PREFIX + OTHER_ENDS.get(i), GgufValue.u32(others.get(i)));
    }
    tokenizer.padTokenId().ifPresent(id -> keys.put(PREFIX + "padding_token_id", GgufValue.u32(id)));
    tokenizer.tokenId("<unk>").ifPresent(id -> keys.put(PREFIX + "unknown_token_id", GgufValue.u32(id)));
    keys.put(PREFIX + "add_bos_token", GgufValue.bool(begins));
    keys.put(PREFIX + "add_eos_token", GgufValue.bool(ends));
  }
}
