package dev.oribi.gguf;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.FileOwner;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A model folder around a GGUF file, so that the file can stand wherever a folder can: config.json, tokenizer and template as
 * the file's keys say, and a link to the file itself for the weights. The folder is temporary and goes when the process ends.
 */
public final class GgufFolder {
  /** In config.json: how each weight lies in the file, by Hugging Face's names. */
  public static final String TYPES = "gguf_types";

  private static final String PREFIX = "oribi-gguf-";

  private GgufFolder() {}

  /** How each weight lies in the file that a config.json stands beside; empty for any other config.json. */
  public static Map<String, GgmlType> types(JsonNode config) {
    Map<String, GgmlType> types = new LinkedHashMap<>();
    JsonNode stated = config == null ? null : config.get(TYPES);
    if (stated == null) {
      return types;
    }
    for (Map.Entry<String, JsonNode> e : stated.properties()) {
      String name = e.getValue().asText();
      types.put(e.getKey(), Arrays.stream(GgmlType.values()).filter(t -> t.name().equals(name)).findFirst()
          .orElseThrow(() -> new OribiException("config.json: " + TYPES + " names the type " + Json.shorten(name) + ", which does not exist")));
    }
    return types;
  }

  /** {@code path} itself if it is a folder; for a GGUF file a folder around it. */
  public static Path of(Path path) {
    if (path == null || !Files.isRegularFile(path)) {
      return path;
    }
    try {
      AtomicFiles.deleteLeftovers(Path.of(System.getProperty("java.io.tmpdir")), PREFIX);
      Path folder = Files.createTempDirectory(PREFIX + FileOwner.SELF + "-");
      Runtime.getRuntime().addShutdownHook(new Thread(() -> AtomicFiles.deleteTree(folder)));
      unpack(path, folder);
      return folder;
    } catch (IOException e) {
      throw new OribiException(path + ": no temporary folder can be made: " + e.getMessage() + "; set java.io.tmpdir.", e);
    }
  }

  /** Writes everything but the weights into a folder, and a link to the file. */
  public static void unpack(Path path, Path folder) throws IOException {
    try (GgufModel model = GgufModel.open(path)) {
      GgufFile file = model.file();
      ObjectNode config = model.config();
      TokenizerFiles tokenizer = new TokenizerFiles(file, config.get("vocab_size").asInt());
      putIds(config, tokenizer);
      ObjectNode types = config.putObject(TYPES);
      model.tensors().forEach((name, t) -> types.put(name, t.type().name()));
      Json.write(folder.resolve("config.json"), config);
      Json.write(folder.resolve("tokenizer.json"), tokenizer.tokenizer());
      Json.write(folder.resolve("tokenizer_config.json"), tokenizer.config());
      ObjectNode generation = Json.object();
      putIds(generation, tokenizer);
      Json.write(folder.resolve("generation_config.json"), generation);
      GgufValue template = file.metadata().get(TokenizerKeys.TEMPLATE);
      if (template != null) {
        AtomicFiles.text(folder.resolve("chat_template.jinja"), template.text(file.where(TokenizerKeys.TEMPLATE)));
      }
    }
    Files.createSymbolicLink(folder.resolve(GgufModel.FILE), path.toAbsolutePath());
  }

  private static void putIds(ObjectNode json, TokenizerFiles tokenizer) {
    tokenizer.id("bos_token_id").ifPresent(id -> json.put("bos_token_id", id));
    tokenizer.id("padding_token_id").ifPresent(id -> json.put("pad_token_id", id));
    List<Integer> ends = tokenizer.ends();
    if (ends.size() == 1) {
      json.put("eos_token_id", ends.get(0));
    } else if (!ends.isEmpty()) {
      ArrayNode list = json.putArray("eos_token_id");
      ends.forEach(list::add);
    }
  }
}
