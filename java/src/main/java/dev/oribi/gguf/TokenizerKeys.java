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
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

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
    Path file = folder.resolve("tokenizer.json");
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
    tokenizer.bosTokenId().ifPresent(id -> keys.put(PREFIX + "bos_token_id", GgufValue.u32(id)));
    int eos = tokenizer.eosTokenId().orElse(generation.eosTokenIds().isEmpty() ? -1 : generation.eosTokenIds().get(0));
    if (eos >= 0) {
      keys.put(PREFIX + "eos_token_id", GgufValue.u32(eos));
    }
    generation.eosTokenIds().stream().filter(id -> id != eos).findFirst()
        .ifPresent(id -> keys.put(PREFIX + "eot_token_id", GgufValue.u32(id)));
    tokenizer.padTokenId().ifPresent(id -> keys.put(PREFIX + "padding_token_id", GgufValue.u32(id)));
    tokenizer.tokenId("<unk>").ifPresent(id -> keys.put(PREFIX + "unknown_token_id", GgufValue.u32(id)));
    keys.put(PREFIX + "add_bos_token", GgufValue.bool(begins));
    keys.put(PREFIX + "add_eos_token", GgufValue.bool(ends));
  }
}
