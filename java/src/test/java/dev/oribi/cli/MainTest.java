package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.cli.TinyRun.Outcome;
import dev.oribi.text.ByteTokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class MainTest {
  @TempDir Path folder;
  private TinyRun tiny;

  @BeforeEach
  void makeModel() throws IOException {
    tiny = new TinyRun(folder);
  }

  @Test
  void aTargetThatTheModelHasNotIsRefused() {
    Outcome outcome = TinyRun.run(tiny.train(folder.resolve("out"), "--target-modules=q_proj,qkv_proj"));
    assertThat(outcome.code()).isNotZero();
    assertThat(outcome.err()).contains("--target-modules names qkv_proj, which this model does not have: it has q_proj, k_proj");
  }

  @Test
  void trainsAnAdapter() throws IOException {
    Path out = folder.resolve("out");
    Outcome outcome = TinyRun.run(tiny.train(out, "--num_train_epochs=2", "eval_fraction=0.2"));
    assertThat(outcome.code()).as(outcome.err()).isZero();
    assertThat(outcome.out()).startsWith("model: ").contains("37 rows").contains("held-out loss").contains("Done: ");
    assertThat(out).isDirectoryContaining(path -> path.endsWith("adapter_model.safetensors"))
        .isDirectoryContaining(path -> path.endsWith("adapter_config.json"))
        .isDirectoryContaining(path -> path.endsWith("train.jsonl"));
    if (!outcome.out().contains("No loss.png: this Java cannot draw")) { // no fonts on this machine: said, and nothing else missing
      assertThat(out).isDirectoryContaining(path -> path.endsWith("loss.png"));
    }
    Outcome inspected = TinyRun.run("inspect", "--adapter", out.toString());
    assertThat(inspected.out()).contains("a LoRA adapter with").contains("r 4, lora_alpha 16.0");
    Path more = folder.resolve("more");
    assertThat(TinyRun.run(tiny.train(more, "--max-steps=2", "--adapter", out.toString())).code()).isZero();
    assertThat(Files.readString(more.resolve("oribi-config.yaml"))).contains("adapter: " + out);
  }

  /** From the same seed, with dropout: order, initial adapter, masks and every update. */
  @Test
  void trainsToTheSameBytesAgain() throws IOException {
    for (String type : List.of("float32", "bfloat16")) {
      Path first = folder.resolve("first-" + type);
      Path again = folder.resolve("again-" + type);
      for (Path out : List.of(first, again)) {
        Outcome outcome = TinyRun.run(tiny.train(out, "--max-steps=4", "--deterministic", "--dtype=" + type));
        assertThat(outcome.code()).as(outcome.err()).isZero();
      }
      assertThat(again.resolve("adapter_model.safetensors")).hasSameBinaryContentAs(first.resolve("adapter_model.safetensors"));
      Path other = folder.resolve("other-" + type);
      assertThat(TinyRun.run(tiny.train(other, "--max-steps=4", "--dtype=" + type, "--seed=5")).code()).isZero();
      assertThat(Files.readAllBytes(other.resolve("adapter_model.safetensors")))
          .isNotEqualTo(Files.readAllBytes(first.resolve("adapter_model.safetensors")));
    }
  }

  @Test
  void refusesTheClocksChoicesInADeterministicRun() {
    Outcome outcome = TinyRun.run(tiny.train(folder.resolve("x"), "--deterministic", "--tune-products"));
    assertThat(outcome.code()).isEqualTo(1);
    assertThat(outcome.err()).startsWith("oribi: --tune-products and --deterministic exclude each other").hasLineCount(1);
  }

  @Test
  void trainsInFourBits() throws IOException {
    Path quantized = folder.resolve("quantized");
    Outcome made = TinyRun.run("quantize", "--model", tiny.model.toString(), "--output-dir", quantized.toString());
    assertThat(made.code()).as(made.err()).isZero();
    Outcome inspected = TinyRun.run("inspect", "--model", quantized.toString());
    assertThat(inspected.out()).contains("in 4 bits: NF4 with double quantization");
    String parameters = TinyRun.run("inspect", "--model", tiny.model.toString()).out().replaceAll("(?s).*with ([0-9,]+ parameters).*", "$1");
    assertThat(inspected.out()).contains(parameters);
    Path onLoad = folder.resolve("on-load");
    Outcome first = TinyRun.run(tiny.train(onLoad, "--max-steps=3", "--load-in-4bit"));
    assertThat(first.code()).as(first.err()).isZero();
    assertThat(first.out()).contains("load_in_4bit: true");
    Path stored = folder.resolve("stored");
    assertThat(TinyRun.run(tiny.train(stored, "--max-steps=3", "--model", quantized.toString())).code()).isZero();
    assertThat(stored.resolve("adapter_model.safetensors")).hasSameBinaryContentAs(onLoad.resolve("adapter_model.safetensors"));
    Outcome plan = TinyRun.run(withCommand("plan", tiny.train(onLoad, "--load-in-4bit")));
    assertThat(plan.out()).contains("weights in 4 bits");
    assertThat(TinyRun.run("quantize", "--model", quantized.toString(), "--output-dir", folder.resolve("x").toString()).err())
        .isEqualTo("oribi: " + quantized + " is in 4 bits already\n");
    assertThat(TinyRun.run(tiny.train(folder.resolve("y"), "--load-in-4bit", "--full")).err())
        .startsWith("oribi: --load-in-4bit and --full exclude each other");
    assertThat(TinyRun.run(tiny.train(folder.resolve("y"), "--full", "--model", quantized.toString())).err())
        .startsWith("oribi: weights in 4 bits cannot learn");
  }

  private static List<String> withCommand(String command, List<String> train) {
    List<String> arguments = new ArrayList<>(train);
    arguments.set(0, command);
    return arguments;
  }

  @Test
  void inspectsModelsAndRows() {
    Outcome model = TinyRun.run("inspect", "--model", tiny.model.toString());
    assertThat(model.out()).contains("a llama model with").contains("3, hidden size 64").contains("shared with the embedding");
    Outcome row = TinyRun.run("inspect", "--model", tiny.model.toString(), "--data", tiny.rows.toString(), "--row=2");
    assertThat(row.code()).isZero();
    assertThat(row.out()).contains("rows.jsonl:2: 5 tokens, 4 of them targets");
    assertThat(TinyRun.run("inspect", "--model", tiny.model.toString(), "--data", tiny.rows.toString(), "--row=38").err())
        .isEqualTo("oribi: --row is 38: the data has rows 1 to 37.\n");
  }

  @Test
  void inspectWarnsOfFaultsOfAFolder() throws IOException {
    Path faulty = ByteTokenizer.write(folder.resolve("faulty"));
    for (String name : List.of("config.json", "model.safetensors")) {
      Files.copy(tiny.model.resolve(name), faulty.resolve(name));
    }
    Files.writeString(faulty.resolve("chat_template.jinja"), ByteTokenizer.CHATML);
    Outcome inspected = TinyRun.run("inspect", "--model", faulty.toString());
    assertThat(inspected.code()).as(inspected.err()).isZero();
    assertThat(inspected.out()).contains("  WARNING         the tokenizer begins every text with <s>, the chat template does not")
        .contains("  WARNING         the chat template ends an answer with <|im_end|>, generation stops at");
    assertThat(TinyRun.run("inspect", "--model", tiny.model.toString()).out()).doesNotContain("WARNING");
  }

  @ParameterizedTest
  @ValueSource(strings = {"train", "generate", "chat", "eval", "plan", "inspect", "quantize", "trace", "bench", "version", "serve", "export"})
  void explainsEveryCommand(String command) {
    Outcome outcome = TinyRun.run(command, "--help");
    assertThat(outcome.code()).isZero();
    assertThat(outcome.out()).startsWith("Usage: oribi " + command);
  }

  @Test
  void showsDefaultsInTheHelp() {
    assertThat(TinyRun.run("train", "--help").out()).containsPattern("--lora-r=R[^-]*Default: 16\n")
        .containsPattern("--shuffle[^-]*--seed[^-]*Default: true\n");
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "train --lerning-rate 1   | Unknown option '--lerning-rate': did you mean '--learning-rate'?",
      "train lora_rr=1          | Unknown option '--lora-rr': did you mean '--lora-r'?",
      "train --seed many        | Invalid value for option '--seed': 'many' is not a long",
      "tarin                    | there is no command 'tarin': did you mean 'train'?",
      "bench atention           | there is no command 'atention': did you mean 'attention'?",
      "--debug                  | a command is missing; there are train, generate, chat, eval, plan, serve, export, quantize, trace, bench, inspect, version",
      "generate --model x       | Missing required option: '--prompt=TEXT'"})
  void endsWith2OnAWrongCommandLine(String line, String message) {
    Outcome outcome = TinyRun.run(line.split(" "));
    assertThat(outcome.code()).isEqualTo(2);
    assertThat(outcome.err()).startsWith("oribi: " + message + "\nTry 'oribi ");
    assertThat(outcome.err().lines()).hasSize(2);
  }

  /** What is wrong with a command's own options or files: code 1 and one line that says what and where. */
  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "generate --prompt hi --model nowhere        | nowhere: there is no such folder or file.",
      "generate --prompt hi --temperature -1       | --temperature must not be negative, and is -1.0",
      "generate --prompt hi --temperature 1e300    | temperature must be a number that a float holds, and is Infinity",
      "chat --repetition-penalty 1e300             | repetition_penalty must be a number that a float holds, and is Infinity",
      "generate --prompt hi --top-p 3              | top_p must be above 0 and at most 1, and is 3.0",
      "generate --prompt hi --max-seq-length 0     | --max-seq-length is 0: it must be 2 or more.",
      "generate --prompt hi --adapter nowhere      | nowhere: there is no such folder.",
      "chat --top-k -1                             | top_k must not be negative (0 is off), and is -1",
      "eval --data nowhere.jsonl                   | There is no data file nowhere.jsonl",
      "serve --port 99999                          | --port must be from 0 to 65535, and is 99999",
      "serve --port 0 --host nowhere.invalid       | cannot listen at nowhere.invalid:0",
      "export --format gguf --type q9 --output x   | there is no GGUF type q9; there are f32, f16",
      "export --format gguf --output src --overwrite | src is a folder, and gguf is one file: give it a name, such as src/model.gguf",
      "export --format merged --output src --overwrite | src is a folder that no export wrote",
      "export --format merged --output ../models/tiny --overwrite | ../models/tiny holds",
      "quantize --model pom.xml --output-dir x     | pom.xml: is a file, and here a model folder is needed.",
      "quantize --model ../models/tiny/model --output-dir src | src exists: give another --output-dir",
      "trace --model ../models/tiny/model --batch nowhere.json --out x | nowhere.json: no such file.",
      "inspect --model pom.xml                     | pom.xml: is not a GGUF file"})
  void endsWith1OnWhatIsWrong(String line, String message) {
    System.setProperty("oribi.home", "..");
    try {
      Outcome outcome = TinyRun.run(line.split(" "));
      assertThat(outcome.code()).as(outcome.out()).isEqualTo(1);
      assertThat(outcome.err()).startsWith("oribi: " + message).hasLineCount(1).doesNotContain("fault in Oribi");
      assertThat(outcome.out()).isEmpty();
    } finally {
      System.clearProperty("oribi.home");
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"missing file", "missing model", "empty data", "wrong row", "truncated weights", "long header",
      "unknown architecture", "wrong shape", "unknown key", "no folder"})
  void endsWith1AndOneLine(String fault) throws IOException {
    Path out = folder.resolve("faulty");
    List<String> arguments = tiny.train(out, "--max-steps=2", brokenOption(fault));
    Outcome outcome = TinyRun.run(arguments);
    assertThat(outcome.code()).as(outcome.out()).isEqualTo(1);
    assertThat(outcome.err()).startsWith("oribi: ").hasLineCount(1).doesNotContain("Exception").doesNotContain("fault in Oribi");
    assertThat(out.resolve("train.jsonl")).doesNotExist();
    assertThat(out.resolve("adapter_model.safetensors")).doesNotExist();
  }

  /** Breaks a file of the run, and returns an option that makes the run meet it. */
  private String brokenOption(String fault) throws IOException {
    Path weights = tiny.model.resolve("model.safetensors");
    Path config = tiny.model.resolve("config.json");
    byte[] bytes = Files.readAllBytes(weights);
    switch (fault) {
      case "missing file" -> Files.delete(tiny.rows);
      case "missing model" -> Files.delete(config);
      case "empty data" -> Files.writeString(tiny.rows, "");
      case "wrong row" -> Files.writeString(tiny.rows, "{\"input_ids\": [1, 2]}\n{\"input_ids\": [1, 99999]}\n");
      case "truncated weights" -> Files.write(weights, java.util.Arrays.copyOf(bytes, bytes.length - 100));
      case "long header" -> {
        bytes[6] = 1;
        Files.write(weights, bytes);
      }
      case "unknown architecture" -> replace(config, "\"llama\"", "\"mamba\"");
      case "wrong shape" -> replace(config, "\"intermediate_size\": 172", "\"intermediate_size\": 168");
      case "unknown key" -> {
        Path yaml = Files.writeString(folder.resolve("run.yaml"), "learning_rat: 1\n");
        return "--config=" + yaml;
      }
      case "no folder" -> {
        return "--output-dir=" + tiny.rows.resolve("out");
      }
      default -> throw new IllegalArgumentException(fault);
    }
    return "--seed=1";
  }

  private static void replace(Path file, String what, String by) throws IOException {
    String text = Files.readString(file);
    assertThat(text).contains(what);
    Files.writeString(file, text.replace(what, by));
  }
}
