package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.cli.TinyRun.Outcome;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.testing.Stories260K;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The commands with {@code --head-in-8bit} on trained weights. Both models share their head with the embedding; a copy in which
 * the head is a tensor of its own has the same numbers.
 */
class HeadIn8BitRunTest {
  private static final Path TINY = Path.of("..", "models", "tiny");
  private static final String HEAD = "lm_head.weight";
  private static final Pattern LOSS = Pattern.compile("loss ([0-9.]+)  perplexity [0-9.]+  tokens ([0-9]+)");
  private static final Pattern OFF = Pattern.compile("The head is in 8 bits: its weights are off by ([0-9.]+) %");

  @TempDir Path folder;

  /** Writes {@code model} again with a head of its own, and its tokenizer. */
  private Path untied(Path model) throws IOException {
    Path to = Files.createDirectories(folder.resolve("untied"));
    try (Checkpoint from = Checkpoint.open(model);
        Stream<Path> files = Files.list(model)) {
      Map<String, TensorInfo> tensors = new LinkedHashMap<>(from.tensors());
      tensors.put(HEAD, from.tensor("model.embed_tokens.weight"));
      List<SafetensorsWriter.Tensor> declared = new ArrayList<>();
      tensors.forEach((name, t) -> declared.add(new SafetensorsWriter.Tensor(name, TensorType.F32, t.shape())));
      SafetensorsWriter.writeModel(to, declared, SafetensorsWriter.DEFAULT_SHARD_BYTES, (t, sink) -> {
        TensorInfo info = tensors.get(t.name());
        FloatBuffer values = FloatBuffer.allocate((int) Arrays.stream(info.shape()).reduce(1, (a, b) -> a * b));
        from.fileOf(info).readFloats(info, 0, values);
        sink.floats(values.flip());
      });
      for (Path file : files.toList()) {
        if (!file.toString().endsWith(".safetensors")) {
          Files.copy(file, to.resolve(file.getFileName()));
        }
      }
    }
    ObjectNode config = ((ObjectNode) Json.read(to.resolve("config.json"))).put("tie_word_embeddings", false);
    Json.write(to.resolve("config.json"), config);
    return to;
  }

  private static double eval(Path model, Path data, String... options) {
    List<String> arguments = new ArrayList<>(List.of("eval", "--model", model.toString(), "--data", data.toString(), "--dtype",
        "float32", "--device=" + TestMachine.name()));
    arguments.addAll(List.of(options));
    Outcome outcome = TinyRun.run(arguments);
    assertThat(outcome.code()).as(outcome.err()).isZero();
    Matcher loss = LOSS.matcher(outcome.out());
    assertThat(loss.find()).as(outcome.out()).isTrue();
    boolean in8Bits = List.of(options).contains("--head-in-8bit");
    Matcher off = OFF.matcher(outcome.out());
    assertThat(off.find()).isEqualTo(in8Bits);
    if (in8Bits) {
      assertThat(Double.parseDouble(off.group(1))).isBetween(0.3, 0.9);
      System.out.printf("head in 8 bits: weights off by %s %%, %s tokens%n", off.group(1), loss.group(2));
    }
    return Double.parseDouble(loss.group(1));
  }

  /** The loss moves by what its rounding costs, not more; and it does move. */
  private static void check(String name, double plain, double in8Bits) {
    System.out.printf("%s: loss %.6f, with the head in 8 bits %.6f (%+.1e)%n", name, plain, in8Bits, in8Bits - plain);
    assertThat(in8Bits).isNotEqualTo(plain);
    assertThat(Math.abs(in8Bits - plain)).isLessThan(4e-3 * plain);
  }

  @Test
  void lossOfTheTinyModel() throws IOException {
    TestMachine.commandRuns();
    Path model = untied(TINY.resolve("model"));
    Path data = TINY.resolve("instruct/heldout.jsonl");
    double plain = eval(model, data);
    assertThat(plain).isEqualTo(eval(TINY.resolve("model"), data));
    check("the tiny model", plain, eval(model, data, "--head-in-8bit"));
  }

  @Test
  void lossOfStories260K() throws IOException {
    Stories260K stories = Stories260K.read();
    TestMachine.commandRuns();
    stories.write(folder.resolve("stories"));
    Path model = untied(folder.resolve("stories"));
    Path data = folder.resolve("rows.jsonl");
    Files.writeString(data, "{\"input_ids\": " + Stories260K.json("gradients.json").get("tokens") + "}\n{\"input_ids\": "
        + Stories260K.json("facts.json").get("greedy_ids_from_bos") + "}\n");
    check("stories260K", eval(model, data), eval(model, data, "--head-in-8bit"));
  }

  @Test
  void trainsPlansAndGenerates() throws IOException {
    TestMachine.commandRuns();
    Path model = untied(TINY.resolve("model"));
    String device = "--device=" + TestMachine.name();
    List<String> train = List.of("--model", model.toString(), "--data", TINY.resolve("instruct/heldout.jsonl").toString(),
        "--output-dir", folder.resolve("out").toString(), "--max-steps=3", "--head-in-8bit", device);
    Outcome plan = TinyRun.run(Stream.concat(Stream.of("plan"), train.stream()).toList());
    assertThat(plan.out()).containsPattern("weights in 8 bits +" + String.format("%,d", bytes(model)));
    Outcome trained = TinyRun.run(Stream.concat(Stream.of("train"), train.stream()).toList());
    assertThat(trained.code()).as(trained.err()).isZero();
    assertThat(trained.out()).contains("head_in_8bit: true").containsPattern(OFF).contains("Done: 3 steps");
    Outcome said = TinyRun.run("generate", "--model", model.toString(), "--adapter", folder.resolve("out").toString(),
        "--head-in-8bit", "--prompt", "Once upon a time", "--max-new-tokens=8", device);
    assertThat(said.code()).as(said.err()).isZero();
    assertThat(said.out()).startsWith("Once upon a time");
    assertThat(said.err()).containsPattern(OFF);
  }

  /** Of codes and scales, each rounded up to the plan's alignment of 256. */
  private static long bytes(Path model) {
    long elements = Json.read(model.resolve("config.json")).get("vocab_size").longValue() * 192;
    return (elements + 255) / 256 * 256 + (elements / 16 + 255) / 256 * 256;
  }

  @Test
  void whereItCannotBe() {
    Outcome tied = TinyRun.run("eval", "--model", TINY.resolve("model").toString(), "--data",
        TINY.resolve("instruct/heldout.jsonl").toString(), "--head-in-8bit", "--device=cpu");
    assertThat(tied.code()).isNotZero();
    assertThat(tied.err()).startsWith("oribi: --head-in-8bit: this model's head is its embedding table").hasLineCount(1);
    Outcome full = TinyRun.run("train", "--full", "--head-in-8bit", "--device=cpu", "--model", TINY.resolve("model").toString(),
        "--data", TINY.resolve("instruct/heldout.jsonl").toString());
    assertThat(full.err()).startsWith("oribi: --head-in-8bit and --full exclude each other").hasLineCount(1);
  }
}
