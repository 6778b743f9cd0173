package dev.oribi.fuzz;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgufFile;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.data.DataOptions;
import dev.oribi.data.Dataset;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** What each reader does with bytes from anywhere. */
final class Targets {
  /** A reader under test. */
  interface Target {
    void read(byte[] input) throws IOException;
  }

  private static Path folder;

  private Targets() {}

  /** By name. */
  static Map<String, Target> all() {
    return Map.of("safetensors", Targets::safetensors, "gguf", Targets::gguf, "tokenizer", Targets::tokenizer, "sentencepiece", Targets::sentencePiece,
        "template", Targets::template, "json", Targets::json, "csv", Targets::csv, "parquet", Targets::parquet);
  }

  /** Runs a target; whatever it throws but one clear line goes on to the fuzzer. */
  static void run(Target target, byte[] input) {
    try {
      target.read(input);
    } catch (OribiException e) {
      if (e.getMessage() == null || e.getMessage().isBlank() || e.getMessage().contains("\n")) {
        throw new AssertionError("an error that is not one line: " + e.getMessage(), e);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static synchronized Path folder() throws IOException {
    if (folder == null) {
      folder = Files.createTempDirectory("fuzz");
      folder.toFile().deleteOnExit();
    }
    return folder;
  }

  private static Path file(String name, byte[] bytes) throws IOException {
    Path file = folder().resolve(name);
    file.toFile().deleteOnExit();
    return Files.write(file, bytes);
  }

  static void safetensors(byte[] input) throws IOException {
    try (Checkpoint weights = Checkpoint.open(file("model.safetensors", input))) {
      for (TensorInfo tensor : weights.tensors().values()) {
        if (tensor.bytes() < 0 || tensor.elements() < 0) {
          throw new AssertionError(tensor.name());
        }
      }
    }
  }

  /** A file that opens gives every small tensor; one that makes a model folder gives its configuration and tokenizer too. */
  static void gguf(byte[] input) throws IOException {
    Path file = file("model.gguf", input);
    try (GgufFile opened = GgufFile.open(file)) {
      for (GgufTensor t : opened.tensors().values()) {
        opened.readFloats(t, 0, FloatBuffer.allocate((int) Math.min(t.elements(), t.type().blockElements())));
      }
    }
    Path model = folder().resolve("gguf");
    AtomicFiles.deleteTree(model);
    GgufFolder.unpack(file, Files.createDirectory(model));
    ModelConfig.read(model);
    ChatTemplate.load(model);
    encode(model);
  }

  /** A tokenizer that loads must also encode and decode; files that the native library would read are left alone. */
  static void tokenizer(byte[] input) throws IOException {
    Path model = Files.createDirectories(folder().resolve("json"));
    Files.write(model.resolve("tokenizer.json"), input);
    encode(model);
  }

  static void sentencePiece(byte[] input) throws IOException {
    Path model = Files.createDirectories(folder().resolve("model"));
    Files.write(model.resolve("tokenizer.model"), input);
    encode(model);
  }

  private static void encode(Path model) {
    try (Tokenizer tokenizer = Tokenizer.loadWithoutLibrary(model)) {
      for (String text : List.of("Hello, world!  123\n\n", "日本語 é🙂 <s></s>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")) {
        int[] ids = tokenizer.encodeWithOffsets(text, true).ids();
        for (int id : ids) {
          tokenizer.token(id);
        }
        tokenizer.decode(ids, true);
      }
    }
  }

  static void template(byte[] input) {
    Map<String, Object> tools = Map.of("type", "function", "function", Map.of("name", "f", "parameters", Map.of("x", 1)));
    List<Map<String, Object>> messages = List.of(Map.of("role", "system", "content", "S"), Map.of("role", "user", "content", "a 'b' é"),
        Map.of("role", "assistant", "content", "", "tool_calls", List.of(tools)), Map.of("role", "tool", "content", "{\"y\": 2}"),
        Map.of("role", "assistant", "content", "done"));
    ChatTemplate.parse(new String(input, StandardCharsets.UTF_8)).render(messages, true,
        Map.of("bos_token", "<s>", "eos_token", "</s>", "tools", List.of(tools)));
  }

  static void json(byte[] input) throws IOException {
    load(file("rows.jsonl", input));
  }

  static void csv(byte[] input) throws IOException {
    load(file("rows.csv", input));
  }

  static void parquet(byte[] input) throws IOException {
    load(file("rows.parquet", input));
  }

  private static void load(Path file) {
    Dataset.scan(List.of(file), new DataOptions(64, 1000, 1, null), Bytes.TOKENIZER, Bytes.CHATML);
    Dataset.scan(List.of(file), new DataOptions(64, 1000, 1, null).skippingBadRows(true), Bytes.TOKENIZER, Bytes.CHATML);
  }

  /** A tokenizer of bytes, made once. */
  private static final class Bytes {
    static final ChatTemplate CHATML = ChatTemplate.named("chatml");
    static final Tokenizer TOKENIZER = make();

    private static Tokenizer make() {
      try {
        return Tokenizer.load(dev.oribi.text.ByteTokenizer.write(folder().resolve("bytes")));
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }
}
