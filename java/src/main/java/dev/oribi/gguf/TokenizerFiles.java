package dev.oribi.gguf;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;

/** The way back from {@link TokenizerKeys}: tokenizer.json and tokenizer_config.json from the keys of a GGUF file. */
final class TokenizerFiles {
  private static final String KEYS = TokenizerKeys.PREFIX;

  /** All cuts of a piece are tried, which takes the square of its length. */
  private static final int MAX_PIECE = 1024;

  private static final Set<String> ENDS = Set.of("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>",
      "<|end_of_text|>", "<EOT>", "_<EOT>");

  private final GgufFile file;
  private final List<String> tokens;
  private final long[] types;
  private final boolean pieces;

  TokenizerFiles(GgufFile file, int vocabulary) {
    this.file = file;
    String model = file.required(KEYS + "model").text(file.where(KEYS + "model"));
    if (!model.equals("gpt2") && !model.equals("llama")) {
      throw new OribiException(file.where(KEYS + "model") + " " + Json.shorten(model) + " is not supported; gpt2 and llama are.");
    }
    pieces = model.equals("llama");
    tokens = file.required(KEYS + "tokens").strings(file.where(KEYS + "tokens"));
    types = file.metadata().containsKey(KEYS + "token_type")
        ? file.required(KEYS + "token_type").integers(file.where(KEYS + "token_type"))
        : new long[tokens.size()];
    if (types.length != tokens.size() || tokens.size() > vocabulary) {
      throw new OribiException(file.file() + ": has " + tokens.size() + " tokens, " + types.length + " types of tokens and an embedding of "
          + vocabulary + " rows.");
    }
  }

  OptionalInt id(String key) {
    GgufValue value = file.metadata().get(KEYS + key);
    if (value == null) {
      return OptionalInt.empty();
    }
    long id = value.integer(file.where(KEYS + key), Long.MIN_VALUE, Long.MAX_VALUE);
    return id >= 0 && id < tokens.size() ? OptionalInt.of((int) id) : OptionalInt.empty(); // 4294967295 stands for none
  }

  /** The tokens that end a text: those that the keys name, and those that llama.cpp knows by their text, as many files name one alone. */
  List<Integer> ends() {
    Set<Integer> ends = new LinkedHashSet<>();
    id("eos_token_id").ifPresent(ends::add);
    TokenizerKeys.OTHER_ENDS.forEach(key -> id(key).ifPresent(ends::add));
    for (int id = 0; id < tokens.size(); id++) {
      if (ENDS.contains(tokens.get(id)) && (is(id, TokenizerKeys.CONTROL) || is(id, TokenizerKeys.USER_DEFINED))) {
        ends.add(id);
      }
    }
    return List.copyOf(ends);
  }

  private boolean flag(String key, boolean ifMissing) {
    GgufValue value = file.metadata().get(KEYS + key);
    return value == null ? ifMissing : value.flag(file.where(KEYS + key));
  }

  private boolean is(int id, int type) {
    return types[id] == type;
  }

  /** tokenizer.json */
  ObjectNode tokenizer() {
    ObjectNode json = Json.object().put("version", "1.0");
    json.putNull("truncation").putNull("padding");
    ArrayNode added = json.putArray("added_tokens");
    GgufValue name = file.metadata().get(TokenizerKeys.NAME);
    boolean phi3 = name != null && TokenizerKeys.saysPhi3(name.text(file.where(TokenizerKeys.NAME)));
    for (int id = 0; id < tokens.size(); id++) {
      if (is(id, TokenizerKeys.CONTROL) || is(id, TokenizerKeys.USER_DEFINED) || is(id, TokenizerKeys.UNKNOWN)) {
        added.addObject().put("id", id).put("content", tokens.get(id)).put("single_word", false).put("lstrip", false)
            .put("rstrip", phi3 && TokenizerKeys.stripsInPhi3(tokens.get(id))).put("normalized", false).put("special", !is(id, TokenizerKeys.USER_DEFINED));
      }
    }
    PreTokenizer pre = pieces ? null : PreTokenizer.ofName(file.required(KEYS + "pre").text(file.where(KEYS + "pre")), file.where(KEYS + "pre"));
    if (pieces) {
      putPieces(json);
    } else {
      pre.putInto(json);
      json.putObject("decoder").put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true).put("use_regex", true);
    }
    putAround(json, pieces || pre == PreTokenizer.LLAMA3 || pre == PreTokenizer.TEKKEN);
    putModel(json, !pieces && pre.ignoreMerges());
    return json;
  }

  private void putPieces(ObjectNode json) {
    boolean prepends = flag("add_space_prefix", true);
    ObjectNode normalizer = json.putObject("normalizer").put("type", "Sequence");
    ArrayNode normalizers = normalizer.putArray("normalizers");
    if (prepends) {
      normalizers.addObject().put("type", "Prepend").put("prepend", "▁");
    }
    normalizers.addObject().put("type", "Replace").put("content", "▁").putObject("pattern").put("String", " ");
    json.putNull("pre_tokenizer");
    ArrayNode decoders = json.putObject("decoder").put("type", "Sequence").putArray("decoders");
    decoders.addObject().put("type", "Replace").put("content", " ").putObject("pattern").put("String", "▁");
    decoders.addObject().put("type", "ByteFallback");
    decoders.addObject().put("type", "Fuse");
    if (prepends) {
      decoders.addObject().put("type", "Strip").put("content", " ").put("start", 1).put("stop", 0);
    }
  }

  private void putAround(ObjectNode json, boolean beginsIfMissing) {
    OptionalInt bos = flag("add_bos_token", beginsIfMissing) ? id("bos_token_id") : OptionalInt.empty();
    OptionalInt eos = flag("add_eos_token", false) ? id("eos_token_id") : OptionalInt.empty();
    if (bos.isEmpty() && eos.isEmpty()) {
      json.putNull("post_processor");
      return;
    }
    ObjectNode post = json.putObject("post_processor").put("type", "TemplateProcessing");
    ArrayNode single = post.putArray("single");
    ArrayNode pair = post.putArray("pair");
    ObjectNode special = post.putObject("special_tokens");
    bos.ifPresent(id -> putSpecial(single, special, id));
    single.addObject().putObject("Sequence").put("id", "A").put("type_id", 0);
    eos.ifPresent(id -> putSpecial(single, special, id));
    pair.addAll(single);
    pair.addObject().putObject("Sequence").put("id", "B").put("type_id", 1);
  }

  private void putSpecial(ArrayNode where, ObjectNode special, int id) {
    String token = tokens.get(id);
    where.addObject().putObject("SpecialToken").put("id", token).put("type_id", 0);
    ObjectNode entry = special.putObject(token).put("id", token);
    entry.putArray("ids").add(id);
    entry.putArray("tokens").add(token);
  }

  private void putModel(ObjectNode json, boolean ignoreMerges) {
    ObjectNode model = json.putObject("model").put("type", "BPE");
    model.putNull("dropout");
    model.put("unk_token", pieces ? id("unknown_token_id").isPresent() ? tokens.get(id("unknown_token_id").getAsInt()) : firstUnknown() : null);
    model.putNull("continuing_subword_prefix").putNull("end_of_word_suffix");
    model.put("fuse_unk", pieces).put("byte_fallback", pieces).put("ignore_merges", ignoreMerges);
    ObjectNode vocab = model.putObject("vocab");
    for (int id = 0; id < tokens.size(); id++) {
      if (!is(id, TokenizerKeys.UNUSED)) {
        vocab.put(tokens.get(id), id);
      }
    }
    ArrayNode merges = model.putArray("merges");
    (pieces ? mergesOfScores() : file.required(KEYS + "merges").strings(file.where(KEYS + "merges"))).forEach(merges::add);
  }

  private String firstUnknown() {
    for (int id = 0; id < tokens.size(); id++) {
      if (is(id, TokenizerKeys.UNKNOWN)) {
        return tokens.get(id);
      }
    }
    return null;
  }

  private record Merge(float score, int left, int right) {}

  /** Every way to make a piece from two others, by falling score: what merging by scores would do, as a list of merges. */
  private List<String> mergesOfScores() {
    float[] scores = file.required(KEYS + "scores").floats(file.where(KEYS + "scores"));
    if (scores.length != tokens.size()) {
      throw new OribiException(file.file() + ": has " + tokens.size() + " tokens and " + scores.length + " scores.");
    }
    Map<String, Integer> ids = new HashMap<>();
    for (int id = 0; id < tokens.size(); id++) {
      boolean whole = tokens.get(id).indexOf(' ') >= 0; // Gemma's runs of spaces: found in the text before it has signs for spaces
      if (!whole && (is(id, TokenizerKeys.NORMAL) || is(id, TokenizerKeys.USER_DEFINED) || types[id] == 0)) {
        ids.put(tokens.get(id), id);
      }
    }
    List<Merge> merges = new ArrayList<>();
    for (Map.Entry<String, Integer> e : ids.entrySet()) {
      String piece = e.getKey();
      if (piece.length() > MAX_PIECE) {
        throw new OribiException(file.file() + ": has a token of " + piece.length() + " characters, and " + MAX_PIECE + " are allowed.");
      }
      for (int cut = piece.offsetByCodePoints(0, piece.isEmpty() ? 0 : 1); cut < piece.length(); cut = piece.offsetByCodePoints(cut, 1)) {
        Integer left = ids.get(piece.substring(0, cut));
        Integer right = ids.get(piece.substring(cut));
        if (left != null && right != null) {
          merges.add(new Merge(scores[e.getValue()], left, right));
        }
      }
    }
    merges.sort(Comparator.comparing(Merge::score).reversed().thenComparing(Merge::left).thenComparing(Merge::right));
    return merges.stream().map(m -> tokens.get(m.left) + " " + tokens.get(m.right)).toList();
  }

  /** tokenizer_config.json, without the template. */
  ObjectNode config() {
    ObjectNode json = Json.object().put("tokenizer_class", "PreTrainedTokenizerFast").put("clean_up_tokenization_spaces", false);
    put(json, "bos_token", id("bos_token_id"));
    put(json, "eos_token", id("eos_token_id"));
    put(json, "pad_token", id("padding_token_id"));
    return json;
  }

  private void put(ObjectNode json, String key, OptionalInt id) {
    if (id.isPresent()) {
      json.put(key, tokens.get(id.getAsInt()));
    }
  }
}
