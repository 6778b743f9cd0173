package dev.oribi.text;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.text.BytePairEngine.Settings;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * The engine for the tokenizer of a folder: from {@code tokenizer.json}, else SentencePiece's {@code tokenizer.model}, else GPT-2's
 * {@code vocab.json} with {@code merges.txt}.
 *
 * @param file the one that was read
 * @param ids every token with its id
 * @param defaults the special tokens if no other file of the folder names them
 * @param added ids of tokens that are looked for as a whole, such as {@code <|im_end|>}
 * @param reader who encodes, for people
 */
record TokenizerFiles(Path file, TokenizerEngine engine, Map<String, Integer> ids, Map<String, String> defaults,
    Set<Integer> added, String reader) {
  static final String JSON = "tokenizer.json";
  static final String MODEL = "tokenizer.model";
  static final String VOCAB = "vocab.json";
  static final String MERGES = "merges.txt";
  private static final String GPT2_END = "<|endoftext|>";

  static boolean exist(Path folder) {
    return Files.isRegularFile(folder.resolve(JSON)) || Files.isRegularFile(folder.resolve(MODEL))
        || Files.isRegularFile(folder.resolve(VOCAB)) && Files.isRegularFile(folder.resolve(MERGES));
  }

  static TokenizerFiles open(Path folder, boolean library) {
    if (Files.isRegularFile(folder.resolve(JSON))) {
      byte[] bytes = JsonFiles.readBytes(folder.resolve(JSON));
      return json(folder.resolve(JSON), bytes, JsonFiles.parse(folder.resolve(JSON), bytes), Map.of(), library);
    }
    if (Files.isRegularFile(folder.resolve(MODEL))) {
      return sentencePiece(folder);
    }
    if (Files.isRegularFile(folder.resolve(VOCAB)) && Files.isRegularFile(folder.resolve(MERGES))) {
      JsonNode json = gpt2(folder);
      return json(folder.resolve(VOCAB), json.toString().getBytes(StandardCharsets.UTF_8), json,
          Map.of("bos_token", GPT2_END, "eos_token", GPT2_END), library);
    }
    throw new OribiException("No tokenizer.json in " + folder + " (nor tokenizer.model, nor vocab.json with merges.txt)"
        + ": copy the one that belongs to the model, or give data that is already tokenized (input_ids).");
  }

  private static TokenizerFiles json(Path file, byte[] bytes, JsonNode json, Map<String, String> defaults,
      boolean library) {
    Map<String, Integer> ids = TokenizerJson.vocabulary(file, json);
    Set<Integer> added = new HashSet<>();
    json.path("added_tokens").forEach(token -> added.add(token.path("id").asInt()));
    try {
      Settings settings = BytePairJson.read(json, ids);
      TokenizerEngine engine = new BytePairEngine(settings, library ? () -> LibraryEngine.open(file, bytes) : null);
      return new TokenizerFiles(file, engine, ids, defaults, added, "Oribi");
    } catch (BytePairJson.NotCovered e) {
      if (!library) {
        throw new OribiException(file + " is left to Hugging Face's library, which was not to be used: " + e.getMessage() + ".", e);
      }
      return new TokenizerFiles(file, LibraryEngine.open(file, bytes), ids, defaults, added,
          "Hugging Face's library, some three times as slow: " + e.getMessage());
    }
  }

  private static TokenizerFiles sentencePiece(Path folder) {
    Path file = folder.resolve(MODEL);
    SentencePieceFile model = SentencePieceFile.read(file);
    Path config = folder.resolve("tokenizer_config.json");
    boolean legacy = !Files.isRegularFile(config) || JsonFiles.parse(config).path("legacy").asBoolean(true);
    Map<String, Integer> ids = new HashMap<>();
    for (int id = 0; id < model.pieces.size(); id++) {
      ids.putIfAbsent(model.pieces.get(id).text(), id);
    }
    Map<String, String> defaults = new HashMap<>();
    putPiece(model, defaults, "bos_token", model.bosId);
    putPiece(model, defaults, "eos_token", model.eosId);
    putPiece(model, defaults, "pad_token", model.padId);
    Set<Integer> added = new HashSet<>();
    for (int id = 0; id < model.pieces.size(); id++) {
      int type = model.pieces.get(id).type();
      if (type == SentencePieceFile.CONTROL || type == SentencePieceFile.USER_DEFINED) {
        added.add(id);
      }
    }
    return new TokenizerFiles(
        file, new BytePairEngine(SentencePieces.settings(model, legacy), null), ids, defaults, added, "Oribi");
  }

  private static void putPiece(SentencePieceFile model, Map<String, String> defaults, String key, int id) {
    if (id >= 0 && id < model.pieces.size()) {
      defaults.put(key, model.pieces.get(id).text());
    }
  }

  /** The two files as the one {@code tokenizer.json} that they stand for. */
  private static JsonNode gpt2(Path folder) {
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    JsonNode vocab = JsonFiles.parse(folder.resolve(VOCAB));
    ObjectNode model = json.putObject("model").put("type", "BPE");
    model.set("vocab", vocab);
    ArrayNode merges = model.putArray("merges");
    JsonFiles.readText(folder.resolve(MERGES)).lines().filter(line -> !line.isEmpty() && !line.startsWith("#version"))
        .forEach(merges::add);
    ArrayNode added = json.putArray("added_tokens");
    Path more = folder.resolve("added_tokens.json");
    if (vocab.has(GPT2_END)) {
      add(added, GPT2_END, vocab.get(GPT2_END));
    }
    if (Files.isRegularFile(more)) {
      JsonFiles.parse(more).properties().forEach(entry -> add(added, entry.getKey(), entry.getValue()));
    }
    for (String key : new String[] {"pre_tokenizer", "decoder"}) {
      json.putObject(key).put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", true).put("use_regex", true);
    }
    return json;
  }

  private static void add(ArrayNode added, String token, JsonNode id) {
    ObjectNode entry = added.addObject();
    entry.set("id", id);
    entry.put("content", token).put("special", true).put("single_word", false).put("lstrip", false).put("rstrip", false)
        .put("normalized", false);
  }
}
