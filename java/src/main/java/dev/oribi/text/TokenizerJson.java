package dev.oribi.text;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/**
 * The vocabulary inside {@code tokenizer.json}, and a check of the file's shape: the native library ends the whole
 * process on some files, so what is plainly wrong must not reach it.
 */
final class TokenizerJson {
  /** The largest published vocabularies have some 260,000 entries. */
  private static final int MAX_ID = 1 << 24;

  private TokenizerJson() {}

  /** Every token with its id; ids are unique and not negative. */
  static Map<String, Integer> vocabulary(Path file, JsonNode json) {
    JsonNode vocab = json.path("model").path("vocab");
    Map<String, Integer> ids = new HashMap<>();
    if (vocab.isObject()) {
      for (Map.Entry<String, JsonNode> entry : vocab.properties()) {
        put(file, ids, entry.getKey(), entry.getValue());
      }
    } else if (vocab.isArray()) {
      readUnigram(file, vocab, ids);
    } else {
      throw broken(file, "model.vocab is missing");
    }
    readAddedTokens(file, json.path("added_tokens"), ids);
    if (ids.isEmpty()) {
      throw broken(file, "the vocabulary is empty");
    }
    return ids;
  }

  /** The tokens of the model alone, of a file that {@link #vocabulary} has checked. */
  static Map<String, Integer> modelTokens(JsonNode model) {
    Map<String, Integer> ids = new HashMap<>();
    for (Map.Entry<String, JsonNode> entry : model.path("vocab").properties()) {
      ids.put(entry.getKey(), entry.getValue().intValue());
    }
    return ids;
  }

  /** Unigram models list pairs of token and score; the id is the place in the list. */
  private static void readUnigram(Path file, JsonNode vocab, Map<String, Integer> ids) {
    for (int i = 0; i < vocab.size(); i++) {
      if (!vocab.get(i).path(0).isTextual() || !vocab.get(i).path(1).isNumber()) {
        throw broken(file, "entry " + i + " of model.vocab is not a token with its score");
      }
      ids.put(vocab.get(i).get(0).textValue(), i);
    }
  }

  private static void readAddedTokens(Path file, JsonNode added, Map<String, Integer> ids) {
    if (!added.isMissingNode() && !added.isNull() && !added.isArray()) {
      throw broken(file, "added_tokens is not a list");
    }
    for (JsonNode token : added) {
      if (!token.path("content").isTextual()) {
        throw broken(file, "an entry of added_tokens has no content");
      }
      put(file, ids, token.get("content").textValue(), token.path("id"));
    }
  }

  private static void put(Path file, Map<String, Integer> ids, String token, JsonNode id) {
    if (!id.isInt() || id.intValue() < 0 || id.intValue() > MAX_ID) {
      throw broken(file, "the id of token '" + OneLine.of(token) + "' is " + OneLine.of(id.toString()));
    }
    ids.put(token, id.intValue());
  }

  private static OribiException broken(Path file, String what) {
    return new OribiException(file + " is not a tokenizer that can be used, " + what + ": download the file again.");
  }
}
