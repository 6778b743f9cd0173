package dev.oribi.text;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** Reads the small JSON files of a model folder, which may come from anywhere: sizes and depth are bounded. */
final class JsonFiles {
  private static final long MAX_BYTES = 256L << 20;
  private static final int MAX_DEPTH = 64;
  /** What decides how text is tokenized. */
  private static final String[] TOKENIZER_FILES = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "tokenizer.model", "vocab.json",
    "merges.txt", "added_tokens.json"
  };

  private static final JsonMapper MAPPER = new JsonMapper(JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(MAX_DEPTH).build())
      .build());

  private JsonFiles() {}

  static byte[] readBytes(Path file) {
    try {
      if (Files.size(file) > MAX_BYTES) {
        throw new OribiException(file + " is larger than " + (MAX_BYTES >> 20) + " MiB, which no model needs: is it the right file?");
      }
      return Files.readAllBytes(file);
    } catch (IOException e) {
      throw new OribiException("Cannot read " + file + ": " + e.getMessage() + ".", e);
    }
  }

  static String readText(Path file) {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(readBytes(file))).toString();
    } catch (CharacterCodingException e) {
      throw new OribiException(file + " is not UTF-8 text: save it as UTF-8.", e);
    }
  }

  static JsonNode parse(Path file) {
    return parse(file, readBytes(file));
  }

  /** The file's one JSON object. */
  static JsonNode parse(Path file, byte[] bytes) {
    try {
      JsonNode json = MAPPER.readTree(bytes);
      if (!json.isObject()) {
        throw new OribiException(file + " does not hold a JSON object: download the file again.");
      }
      return json;
    } catch (JsonProcessingException e) {
      String line = e.getLocation() == null ? "" : " at line " + e.getLocation().getLineNr();
      throw new OribiException(file + " is not valid JSON" + line + ": " + OneLine.of(Json.reason(e)) + ".", e);
    } catch (IOException e) {
      throw new OribiException("Cannot read " + file + ": " + e.getMessage() + ".", e);
    }
  }

  static String fingerprint(Path folder) {
    try {
      MessageDigest sha = MessageDigest.getInstance("SHA-256");
      for (String name : TOKENIZER_FILES) {
        Path file = folder.resolve(name);
        if (Files.isRegularFile(file)) {
          byte[] bytes = readBytes(file);
          sha.update((name + ' ' + bytes.length + '\n').getBytes(StandardCharsets.UTF_8));
          sha.update(bytes);
        }
      }
      return HexFormat.of().formatHex(sha.digest());
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }
}
