package dev.oribi.text;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.text.BytePairEngine.Settings;
import dev.oribi.text.BytePairEngine.Spaces;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * A {@code tokenizer.json} for {@link BytePairEngine}, where it asks for nothing that the engine does not do. What it does: BPE
 * over bytes with the rules of GPT-2, Llama 3 and Qwen 2, and BPE over characters with bytes for the rest, as SentencePiece's.
 */
final class BytePairJson {
  /** Said by a file that the engine does not cover; the library reads it then. */
  static final class NotCovered extends Exception {
    private static final long serialVersionUID = 1;

    NotCovered(String why) {
      super(why);
    }
  }

  private final JsonNode json;
  private final Map<String, Integer> all;

  /** @param all every token with its id, added ones included */
  private BytePairJson(JsonNode json, Map<String, Integer> all) {
    this.json = json;
    this.all = all;
  }

  static Settings read(JsonNode json, Map<String, Integer> all) throws NotCovered {
    return new BytePairJson(json, all).settings();
  }

  private Settings settings() throws NotCovered {
    JsonNode model = json.path("model");
    demand(model.path("type").asText("BPE").equals("BPE"), "its model is no BPE");
    demand(unset(model, "dropout") && unset(model, "continuing_subword_prefix") && unset(model, "end_of_word_suffix"),
        "its BPE drops merges or marks the parts of words");
    demand(model.path("vocab").isObject() && model.path("merges").isArray(), "its BPE has no vocabulary or no merges");
    demand(unset(json, "truncation") && unset(json, "padding"), "it cuts or pads");
    WordRule rule = rule();
    Spaces spaces = spaces();
    boolean nfc = json.path("normalizer").path("type").asText().equals("NFC");
    boolean byteLevel = rule != null;
    demand(!byteLevel || spaces == Spaces.KEPT, "it both writes bytes and replaces spaces");
    Map<String, Integer> ids = TokenizerJson.modelTokens(model);
    int[] byteIds = byteIds(ids, byteLevel);
    Integer unknown = ids.get(model.path("unk_token").asText(""));
    boolean fallsBack = model.path("byte_fallback").asBoolean(false);
    demand(byteLevel || fallsBack && unknown != null, "characters without a token have no bytes in their place");
    PairTable pairs = pairs(model.get("merges"), ids);
    WordRule cut = rule != null ? rule : SpaceSigns.begin(ids.keySet()) ? WordRule.SPACE_SIGN : WordRule.WHOLE;
    BytePairs bytePairs = new BytePairs(ids, pairs, byteIds, byteLevel, model.path("ignore_merges").asBoolean(false),
        unknown == null ? -1 : unknown, model.path("fuse_unk").asBoolean(false));
    Set<Integer> special = new HashSet<>();
    AddedTokens added = new AddedTokens(added(special));
    int[][] around = around(json.path("post_processor"));
    return new Settings(bytePairs, cut, spaces, null, nfc, added, decoder(byteLevel), byId(all), special, around[0], around[1]);
  }

  private static void demand(boolean holds, String why) throws NotCovered {
    if (!holds) {
      throw new NotCovered(why);
    }
  }

  private static boolean unset(JsonNode node, String key) {
    JsonNode value = node.path(key);
    return value.isMissingNode() || value.isNull() || value.isTextual() && value.textValue().isEmpty()
        || value.isNumber() && value.doubleValue() == 0;
  }

  private static String type(JsonNode node) {
    return node.isMissingNode() || node.isNull() ? "" : node.path("type").asText();
  }

  /** The rule that cuts bytes into words; null if the model is one of characters. */
  private WordRule rule() throws NotCovered {
    JsonNode pre = json.path("pre_tokenizer");
    switch (type(pre)) {
      case "", "Metaspace":
        return null;
      case "ByteLevel":
        demand(!pre.path("add_prefix_space").asBoolean(false), "it adds a space in front");
        return pre.path("use_regex").asBoolean(true) ? WordRule.GPT2 : WordRule.WHOLE;
      case "Sequence":
        return ruleOf(pre.path("pretokenizers"));
      case "Split":
        // Gemma's splits at spaces, of which its normalizer has left none.
        demand(pre.path("pattern").path("String").asText().equals(" ") && isSpaceSign(json.path("normalizer")), "its pre_tokenizer is Split");
        return null;
      default:
        throw new NotCovered("its pre_tokenizer is " + type(pre));
    }
  }

  private static WordRule ruleOf(JsonNode steps) throws NotCovered {
    JsonNode split = steps.path(0);
    JsonNode bytes = steps.path(1);
    if (steps.size() == 2 && type(split).equals("Digits") && split.path("individual_digits").asBoolean(false) && type(bytes).equals("ByteLevel")
        && !bytes.path("add_prefix_space").asBoolean(true) && bytes.path("use_regex").asBoolean(true)) {
      return WordRule.DIGITS_GPT2;
    }
    demand(steps.size() == 2 && type(split).equals("Split") && type(bytes).equals("ByteLevel")
        && split.path("behavior").asText().equals("Isolated") && !split.path("invert").asBoolean(false)
        && !bytes.path("add_prefix_space").asBoolean(false) && !bytes.path("use_regex").asBoolean(true),
        "its pre_tokenizer is a sequence of other steps than one Split and ByteLevel");
    return WordRule.of(split.path("pattern").path("Regex").asText())
        .orElseThrow(() -> new NotCovered("its regular expression is none of the known ones"));
  }

  private Spaces spaces() throws NotCovered {
    JsonNode normalizer = json.path("normalizer");
    JsonNode pre = json.path("pre_tokenizer");
    if (type(pre).equals("Metaspace")) {
      demand(type(normalizer).isEmpty() && pre.path("replacement").asText().equals("\u2581")
          && !pre.path("split").asBoolean(true), "its Metaspace splits, or it has a normalizer too");
      return switch (pre.path("prepend_scheme").asText()) {
        case "first" -> Spaces.SIGN_AT_BEGINNING;
        case "never" -> Spaces.SIGNS;
        default -> throw new NotCovered("its Metaspace puts a sign in front of every part");
      };
    }
    switch (type(normalizer)) {
      case "", "NFC":
        return Spaces.KEPT;
      case "Sequence":
        JsonNode steps = normalizer.path("normalizers");
        demand(steps.size() == 2 && type(steps.path(0)).equals("Prepend")
            && steps.path(0).path("prepend").asText().equals("\u2581") && isSpaceSign(steps.path(1)),
            "its normalizer is another sequence than SentencePiece's");
        return Spaces.SIGN_IN_FRONT;
      default:
        demand(isSpaceSign(normalizer), "its normalizer is " + type(normalizer));
        return Spaces.SIGNS;
    }
  }

  private static boolean isSpaceSign(JsonNode step) {
    return type(step).equals("Replace") && step.path("pattern").path("String").asText().equals(" ")
        && step.path("content").asText().equals("\u2581");
  }

  private static int[] byteIds(Map<String, Integer> ids, boolean byteLevel) throws NotCovered {
    int[] byteIds = new int[256];
    for (int b = 0; b < 256; b++) {
      String token = byteLevel ? String.valueOf(BytePairs.letterOf(b)) : String.format("<0x%02X>", b);
      Integer id = ids.get(token);
      demand(id != null, "its vocabulary lacks the byte " + b);
      byteIds[b] = id;
    }
    return byteIds;
  }

  private static PairTable pairs(JsonNode merges, Map<String, Integer> ids) throws NotCovered {
    PairTable pairs = new PairTable(merges.size());
    int rank = 0;
    for (JsonNode merge : merges) {
      String left = merge.path(0).asText();
      String right = merge.path(1).asText();
      if (merge.isTextual()) {
        int space = merge.textValue().indexOf(' ');
        demand(space > 0 && merge.textValue().indexOf(' ', space + 1) < 0, "a merge is not of two tokens");
        left = merge.textValue().substring(0, space);
        right = merge.textValue().substring(space + 1);
      }
      Integer l = ids.get(left);
      Integer r = ids.get(right);
      Integer merged = ids.get(left + right);
      demand(l != null && r != null && merged != null, "a merge is of tokens that are not in the vocabulary");
      pairs.put(l, r, rank++, merged);
    }
    return pairs;
  }

  private Map<String, Integer> added(Set<Integer> special) throws NotCovered {
    Map<String, Integer> found = new HashMap<>();
    boolean changes = !unset(json, "normalizer");
    for (JsonNode token : json.path("added_tokens")) {
      demand(!token.path("single_word").asBoolean(false) && !token.path("lstrip").asBoolean(false)
          && !token.path("rstrip").asBoolean(false) && !(changes && token.path("normalized").asBoolean(false)),
          "an added token takes spaces beside it, or is looked for in text that was changed");
      found.put(token.path("content").asText(), token.path("id").intValue());
      if (token.path("special").asBoolean(false)) {
        special.add(token.path("id").intValue());
      }
    }
    return found;
  }

  private TextDecoder decoder(boolean byteLevel) throws NotCovered {
    JsonNode decoder = json.path("decoder");
    if (byteLevel) {
      demand(type(decoder).equals("ByteLevel"), "its decoder is " + type(decoder));
      return new TextDecoder(true, false);
    }
    JsonNode steps = decoder.path("decoders");
    boolean first = type(decoder).equals("Sequence") && type(steps.path(0)).equals("Replace")
        && steps.path(0).path("pattern").path("String").asText().equals("\u2581") && steps.path(0).path("content").asText().equals(" ")
        && type(steps.path(1)).equals("ByteFallback") && type(steps.path(2)).equals("Fuse");
    JsonNode strip = steps.path(3);
    boolean drops = steps.size() == 4 && type(strip).equals("Strip") && strip.path("content").asText().equals(" ")
        && strip.path("start").asInt() == 1 && strip.path("stop").asInt() == 0;
    demand(first && (steps.size() == 3 || drops), "its decoder is another sequence than SentencePiece's");
    return new TextDecoder(false, drops);
  }

  /** Ids in front of and behind a text. */
  private static int[][] around(JsonNode post) throws NotCovered {
    switch (type(post)) {
      case "", "ByteLevel":
        return new int[][] {{}, {}};
      case "Sequence":
        int[][] found = {{}, {}};
        for (JsonNode step : post.path("processors")) {
          int[][] one = around(step);
          demand(found[0].length + found[1].length == 0 || one[0].length + one[1].length == 0, "two steps add special tokens");
          found = one[0].length + one[1].length > 0 ? one : found;
        }
        return found;
      case "TemplateProcessing":
        return template(post);
      default:
        throw new NotCovered("its post_processor is " + type(post));
    }
  }

  private static int[][] template(JsonNode post) throws NotCovered {
    int[][] around = {{}, {}};
    int side = 0;
    for (JsonNode piece : post.path("single")) {
      if (piece.has("Sequence")) {
        demand(side == 0 && piece.get("Sequence").path("id").asText().equals("A"), "its template repeats the text");
        side = 1;
      } else {
        String token = piece.path("SpecialToken").path("id").asText();
        for (JsonNode id : post.path("special_tokens").path(token).path("ids")) {
          demand(id.isInt() && id.intValue() >= 0, "its template names no token");
          around[side] = Arrays.copyOf(around[side], around[side].length + 1);
          around[side][around[side].length - 1] = id.intValue();
        }
      }
    }
    demand(side == 1, "its template leaves the text out");
    return around;
  }

  /** Tokens by id; an id without a token is null. */
  static String[] byId(Map<String, Integer> ids) {
    String[] tokens = new String[ids.values().stream().mapToInt(Integer::intValue).max().orElse(-1) + 1];
    ids.forEach((token, id) -> tokens[id] = token);
    return tokens;
  }

  /** A broken file for which there is no library to ask. */
  static OribiException broken(String file, String why) {
    return new OribiException(file + " is not a tokenizer that can be used, " + why + ": download the file again.");
  }
}
