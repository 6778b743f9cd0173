package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.cli.TinyRun.Outcome;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.Passed;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * Every family by the command line alone: a folder is made, explained, trained on for 20 steps with adapters on plain weights and
 * on weights in 4 bits and with every weight learning, each with a falling loss; what was saved is loaded again and goes on with a
 * text.
 */
final class FamilyRunTest {
  private static final Path TOKENIZER = Path.of("..", "models", "tiny", "model");
  private static final int VOCABULARY = 2048;
  private static final int STEPS = 20;

  private static final Map<String, ModelConfig> FAMILIES = new LinkedHashMap<>(TinyModels.families());

  static {
    FAMILIES.putAll(TinyModels.routedFamilies());
  }

  @TempDir Path temp;

  @TestFactory
  Stream<DynamicTest> trainsSavesLoadsAndGenerates() {
    return FAMILIES.keySet().stream().map(name -> DynamicTest.dynamicTest(name, () -> check(name)));
  }

  private void check(String family) throws IOException {
    Path folder = Files.createDirectories(temp.resolve(family.replaceAll("\\W+", "-")));
    Path shape = shape(family, folder);
    Path rows = rows(folder, 3);
    Path model = folder.resolve("model");
    train(shape, rows(folder, 4), model, "--from-scratch", "--learning-rate=5e-3");
    for (String name : List.of("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")) {
      Files.copy(TOKENIZER.resolve(name), model.resolve(name));
    }
    String explained = run("inspect", "--model", model.toString()).out();
    assertThat(explained).contains("a " + Json.readObject(model.resolve("config.json")).get("model_type").textValue() + " model");

    Path adapter = folder.resolve("adapter");
    train(model, rows, adapter, "--lora-r=4", "--learning-rate=1e-2");
    checkTargets(adapter);
    Path qlora = folder.resolve("qlora");
    train(model, rows, qlora, "--lora-r=8", "--learning-rate=1e-2", "--load-in-4bit");
    Path full = folder.resolve("full");
    train(model, rows, full, "--full", "--learning-rate=5e-3");

    String before = generate(model);
    assertThat(generate(model, "--adapter", adapter.toString())).isNotEqualTo(before);
    assertThat(generate(model, "--load-in-4bit", "--adapter", qlora.toString())).isNotEqualTo(before);
    assertThat(generate(full)).isNotEqualTo(before);
    try (Checkpoint a = Checkpoint.open(model);
        Checkpoint b = Checkpoint.open(full)) {
      assertThat(b.tensors().keySet()).isEqualTo(a.tensors().keySet());
    }
    String modelType = FAMILIES.get(family).modelType();
    for (String what : List.of("scratch", "lora", "qlora", "full")) {
      Passed.record(modelType, "run " + folder.getFileName(), what, what.equals("qlora") ? "nf4" : "float32");
    }
  }

  /** all-linear is written as the names of the model's own modules, each of which has an adapter: PEFT would find no others. */
  private static void checkTargets(Path adapter) {
    List<String> names = new ArrayList<>();
    Json.readObject(adapter.resolve("adapter_config.json")).get("target_modules").forEach(n -> names.add(n.textValue()));
    try (Checkpoint file = Checkpoint.open(adapter.resolve("adapter_model.safetensors"))) {
      for (String name : names) {
        assertThat(file.tensors().keySet()).anyMatch(t -> t.endsWith("." + name + ".lora_A.weight"));
      }
      assertThat(file.tensors().keySet()).allMatch(t -> names.stream().anyMatch(n -> t.contains("." + n + ".lora_")));
    }
  }

  /** The family's switches at sizes that 4 bits can hold. */
  private static Path shape(String family, Path folder) throws IOException {
    ObjectNode json = FAMILIES.get(family).toJson();
    json.put("hidden_size", 64).put("intermediate_size", 128).put("num_attention_heads", 8).put("num_key_value_heads", 4)
        .put("head_dim", 8).put("vocab_size", VOCABULARY);
    JsonNode rope = json.get("rope_scaling");
    if (rope instanceof ObjectNode scaling && scaling.has("short_factor")) { // one for each pair of a head's half
      scaling.putArray("short_factor").add(1.5).add(2);
      scaling.putArray("long_factor").add(3).add(4);
    }
    Path shape = Files.createDirectories(folder.resolve("shape"));
    Json.write(shape.resolve("config.json"), json);
    return shape;
  }

  private static Path rows(Path folder, long seed) throws IOException {
    Random random = new Random(seed);
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < 8; i++) {
      lines.append("{\"input_ids\": ").append(Arrays.toString(random.ints(5 + i % 4, 0, 40).toArray())).append("}\n");
    }
    Path rows = folder.resolve("rows" + seed + ".jsonl");
    Files.writeString(rows, lines);
    return rows;
  }

  private static void train(Path model, Path rows, Path out, String... options) {
    List<String> arguments = new ArrayList<>(List.of("train", "--model", model.toString(), "--data", rows.toString(), "--output-dir",
        out.toString(), "--max-steps=" + STEPS, "--per-device-train-batch-size=8", "--logging-steps=1", "--save-strategy=no",
        "--lr-scheduler-type=constant", "--device=" + TestMachine.name()));
    arguments.addAll(List.of(options));
    run(arguments.toArray(String[]::new));
    JsonNode log = Json.readObject(out.resolve("trainer_state.json")).get("log_history");
    double first = log.get(0).get("loss").doubleValue();
    double last = log.get(STEPS - 1).get("loss").doubleValue();
    System.out.printf("%s %s: loss %.3f to %.3f%n", out.getParent().getFileName(), List.of(options), first, last);
    assertThat(last).as("loss after %d steps, which began with %.4f (%s)", STEPS, first, List.of(options)).isLessThan(0.9 * first);
  }

  private static String generate(Path model, String... options) {
    List<String> arguments = new ArrayList<>(List.of("generate", "--model", model.toString(), "--prompt", "Once upon a time", "--max-new-tokens=8",
        "--temperature=0", "--device=" + TestMachine.name()));
    arguments.addAll(List.of(options));
    return run(arguments.toArray(String[]::new)).out();
  }

  private static Outcome run(String... arguments) {
    TestMachine.commandRuns();
    Outcome outcome = TinyRun.run(arguments);
    assertThat(outcome.code()).as(String.join(" ", arguments) + "\n" + outcome.err()).isZero();
    return outcome;
  }
}
