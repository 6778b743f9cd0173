package dev.oribi.train;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import java.util.TreeMap;

/**
 * What a run writes down: one entry a logging step, one an evaluation.
 *
 * <p>Each entry is a line of {@code train.jsonl} the moment it is made, and an element of {@code log_history} in {@code
 * trainer_state.json}. A run that goes on from a checkpoint begins with the entries of the checkpoint, so that no step
 * stands in the file twice.
 */
final class TrainLog {
  static final String FILE = "train.jsonl";
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final int LEAST_DECIMALS = 6;

  private final Path file;
  private final List<Map<String, Number>> entries = new ArrayList<>();

  /** Begins the file anew with these entries. */
  TrainLog(Path outputDir, List<Map<String, Number>> history) {
    file = outputDir.resolve(FILE);
    entries.addAll(history);
    StringBuilder lines = new StringBuilder();
    for (Map<String, Number> entry : entries) {
      lines.append(line(entry));
    }
    AtomicFiles.text(file, lines.toString());
  }

  /** Adds an entry: numbers by their names. */
  void add(Map<String, Number> entry) {
    entries.add(new LinkedHashMap<>(entry));
    try {
      Files.writeString(file, line(entry), StandardOpenOption.APPEND);
    } catch (IOException e) {
      throw failure(e);
    }
  }

  List<Map<String, Number>> entries() {
    return List.copyOf(entries);
  }

  /** Whether there is an evaluation of this step. */
  boolean hasEvaluation(int step) {
    return entries.stream().anyMatch(e -> e.containsKey("eval_loss") && e.get("step").intValue() == step);
  }

  /** Hugging Face's {@code trainer_state.json}. {@code total_flos} is there for its readers; it is not counted. */
  ObjectNode trainerState(TrainConfig config, RunState state, double epoch, int totalSteps) {
    ObjectNode node = MAPPER.createObjectNode();
    node.putNull("best_global_step").putNull("best_metric").putNull("best_model_checkpoint");
    node.put("epoch", epoch).put("eval_steps", config.evalSteps).put("global_step", state.step());
    node.put("is_hyper_param_search", false).put("is_local_process_zero", true).put("is_world_process_zero", true);
    node.set("log_history", MAPPER.valueToTree(entries));
    node.put("logging_steps", config.loggingSteps).put("max_steps", totalSteps);
    node.put("num_input_tokens_seen", state.tokens());
    node.put("num_train_epochs", (int) Math.ceil(config.maxSteps > 0 ? epoch : config.numTrainEpochs));
    node.put("save_steps", config.saveSteps);
    node.putObject("stateful_callbacks");
    node.put("total_flos", 0.0).put("train_batch_size", config.perDeviceTrainBatchSize);
    node.putNull("trial_name").putNull("trial_params");
    return node;
  }

  /** The step first, then by name: entries that come back from a checkpoint make the same lines. */
  private static String line(Map<String, Number> entry) {
    StringJoiner line = new StringJoiner(", ", "{\"step\": " + entry.get("step") + ", ", "}\n");
    Map<String, Number> others = new TreeMap<>(entry);
    others.remove("step");
    others.forEach((key, value) -> {
      String text = value instanceof Double number ? decimal(number) : String.valueOf(value);
      line.add('"' + key + "\": " + text);
    });
    return line.toString();
  }

  /** All digits, at least six after the point, no exponent. */
  private static String decimal(double number) {
    BigDecimal exact = BigDecimal.valueOf(number);
    return exact.setScale(Math.max(exact.scale(), LEAST_DECIMALS)).toPlainString();
  }

  private OribiException failure(IOException e) {
    return new OribiException(file + ": the log cannot be written (" + e.getMessage() + "); is the disk full?", e);
  }
}
