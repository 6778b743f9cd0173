package dev.oribi.text;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** The ids of the special tokens, from whichever file of the model folder names them first. */
record SpecialTokens(OptionalInt bos, OptionalInt eos, OptionalInt pad, Set<Integer> ends, Map<String, String> others) {

  static SpecialTokens read(Path folder, TokenizerFiles files) {
    OptionalInt eos = find(folder, files, "eos_token");
    return new SpecialTokens(find(folder, files, "bos_token"), eos, find(folder, files, "pad_token"), ends(folder, files, eos), others(folder));
  }

  private static OptionalInt find(Path folder, TokenizerFiles files, String key) {
    Map<String, Integer> vocabulary = files.ids();
    for (String name : new String[] {"tokenizer_config.json", "special_tokens_map.json"}) {
      Path file = folder.resolve(name);
      JsonNode value = Files.isRegularFile(file) ? JsonFiles.parse(file).path(key) : null;
      // A token is a string or, with its settings, an object that holds the string.
      String token = value == null ? null : value.path("content").asText(value.asText(null));
      if (value != null && !value.isNull() && token != null && !token.isEmpty()) {
        Integer id = vocabulary.get(token);
        if (id == null) {
          throw new OribiException("The " + key + " '" + OneLine.of(token) + "' of " + file
              + " is not in the vocabulary of " + files.file().getFileName() + ": the two files belong to different models.");
        }
        return OptionalInt.of(id);
      }
    }
    OptionalInt generation = fromGenerationConfig(folder, files, key + "_id");
    Integer byDefault = files.defaults().containsKey(key) ? vocabulary.get(files.defaults().get(key)) : null;
    return generation.isEmpty() && byDefault != null ? OptionalInt.of(byDefault) : generation;
  }

  private static OptionalInt fromGenerationConfig(Path folder, TokenizerFiles files, String key) {
    Path file = folder.resolve("generation_config.json");
    if (!Files.isRegularFile(file)) {
      return OptionalInt.empty();
    }
    JsonNode value = JsonFiles.parse(file).path(key);
    JsonNode first = value.isArray() ? value.path(0) : value;
    if (!first.isInt()) {
      return OptionalInt.empty();
    }
    if (!files.ids().containsValue(first.intValue())) {
      throw new OribiException("The " + key + " " + first + " of " + file
          + " is not in the vocabulary of " + files.file().getFileName() + ": the two files belong to different models.");
    }
    return OptionalInt.of(first.intValue());
  }

  /** Further tokens that a folder names, which a chat template may read. */
  private static Map<String, String> others(Path folder) {
    Map<String, String> others = new TreeMap<>();
    for (String name : new String[] {"tokenizer_config.json", "special_tokens_map.json"}) {
      Path file = folder.resolve(name);
      JsonNode json = Files.isRegularFile(file) ? JsonFiles.parse(file) : null;
      for (String key : new String[] {"unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
        JsonNode value = json == null ? null : json.path(key).path("content").isTextual() ? json.path(key).get("content") : json.path(key);
        if (value != null && value.isTextual()) {
          others.putIfAbsent(key, value.textValue());
        }
      }
    }
    return others;
  }

  private static Set<Integer> ends(Path folder, TokenizerFiles files, OptionalInt eos) {
    Set<Integer> ends = new TreeSet<>();
    eos.ifPresent(ends::add);
    Path file = folder.resolve("generation_config.json");
    if (Files.isRegularFile(file)) {
      JsonNode value = JsonFiles.parse(file).path("eos_token_id");
      for (JsonNode id : value.isArray() ? value : List.of(value)) {
        if (id.isInt() && files.ids().containsValue(id.intValue())) {
          ends.add(id.intValue());
        }
      }
    }
    return Set.copyOf(ends);
  }
}
