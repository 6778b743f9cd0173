package dev.oribi.text;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;

/** Published files that the larger tests read from the folder of the property {@code oribi.testData}. */
public final class TestData {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private TestData() {}

  /** A file of the folder; without the folder the test is skipped. */
  public static Path file(String name) {
    String folder = System.getProperty("oribi.testData", "");
    assumeTrue(!folder.isEmpty(), "oribi.testData is not set");
    return Path.of(folder, name);
  }

  public static JsonNode json(String name) throws IOException {
    return MAPPER.readTree(file(name).toFile());
  }

  /** JSON values as plain Java ones. */
  public static Object plain(JsonNode value) {
    return MAPPER.convertValue(value, Object.class);
  }

  /** A model folder with one of the published tokenizers, unpacked below the given folder. */
  public static Path tokenizer(String name, Path folder) throws IOException {
    Path source = file("tokenizers/" + name);
    Path target = Files.createDirectories(folder.resolve(name));
    if (!Files.exists(target.resolve("tokenizer.json"))) {
      try (InputStream in = new GZIPInputStream(Files.newInputStream(source.resolve("tokenizer.json.gz")))) {
        Files.copy(in, target.resolve("tokenizer.json"));
      }
      Files.copy(source.resolve("tokenizer_config.json"), target.resolve("tokenizer_config.json"));
    }
    return target;
  }

  /** A folder with GPT-2's vocab.json and merges.txt, unpacked below the given folder. */
  public static Path gpt2(Path folder) throws IOException {
    Path target = Files.createDirectories(folder.resolve("gpt2"));
    for (String name : new String[] {"vocab.json", "merges.txt"}) {
      try (InputStream in = new GZIPInputStream(Files.newInputStream(file("tokenizers/gpt2/" + name + ".gz")))) {
        Files.copy(in, target.resolve(name));
      }
    }
    return target;
  }
}
