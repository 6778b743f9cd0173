package dev.oribi.train;

import dev.oribi.OribiException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.Collectors;
import org.yaml.snakeyaml.DumperOptions;
import org.yaml.snakeyaml.Yaml;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;

/**
 * The values of a {@link TrainConfig} by their keys, for the log, for the file beside the result and to tell whether a
 * checkpoint belongs to the same run.
 */
final class ResolvedConfig {
  /** Keys that may differ when a run goes on: they change where and how it runs and is watched, and its numbers by rounding at most. */
  private static final Set<String> FREE = Set.of("output_dir", "overwrite_output_dir", "cache_dir", "prompts", "eval_data",
      "per_device_eval_batch_size", "eval_strategy", "eval_steps", "eval_on_start", "logging_steps", "disable_tqdm",
      "save_strategy", "save_steps", "save_total_limit", "resume", "resume_from_checkpoint", "device", "threads",
      "debug_sync", "no_cuda_graph", "attention", "deterministic", "tune_products", "data", "gradient_checkpointing", "memory");

  private ResolvedConfig() {}

  /** Every key with its value: numbers, true and false, text, lists of text; null where nothing was given. */
  static Map<String, Object> values(TrainConfig config) {
    Map<String, Object> values = new LinkedHashMap<>();
    for (OptionSpec option : CommandLine.Model.CommandSpec.forAnnotatedObject(config).options()) {
      String key = option.longestName().substring(2).replace('-', '_');
      if (!key.equals("config")) {
        values.put(key, plain(option.getValue()));
      }
    }
    values.put("learning_rate", config.peakLearningRate());
    return values;
  }

  private static Object plain(Object value) {
    if (value instanceof Collection<?> list) {
      // A list of its own for every key: YAML would write one that is shared as a reference.
      return list.stream().map(ResolvedConfig::plain).collect(Collectors.toCollection(ArrayList::new));
    }
    if (value instanceof Path path) {
      // Absolute, so that a run goes on and is read from whatever folder.
      return path.toAbsolutePath().normalize().toString();
    }
    return value instanceof Enum<?> ? value.toString() : value;
  }

  /** A YAML file that {@code --config} reads again. */
  static String yaml(Map<String, Object> values) {
    DumperOptions options = new DumperOptions();
    options.setDefaultFlowStyle(DumperOptions.FlowStyle.BLOCK);
    return new Yaml(options).dump(values);
  }

  /**
   * Refuses to go on from a checkpoint of other settings than {@code now}.
   *
   * <p>What is compared is the data itself, by its fingerprint, and not the name of its file.
   */
  static void checkSame(Map<String, Object> then, Map<String, Object> now, Path checkpoint) {
    for (Map.Entry<String, Object> entry : now.entrySet()) {
      String key = entry.getKey();
      Object before = then.get(key);
      if (!isFree(key, now) && !same(before, entry.getValue())) {
        throw new OribiException(checkpoint + " was made with " + key + " = " + before + ", but now it is "
            + entry.getValue() + ", which would change the numbers: give the former value, or another --output-dir.");
      }
    }
  }

  /** The length of a run matters to a schedule that ends with it, and to a warm-up that is a part of it. */
  private static boolean isFree(String key, Map<String, Object> config) {
    boolean length = key.equals("max_steps") || key.equals("num_train_epochs");
    boolean constant = config.get("lr_scheduler_type").toString().startsWith("constant");
    return FREE.contains(key) || length && constant && same(config.get("warmup_ratio"), 0);
  }

  /** JSON does not tell 16 from 16.0. */
  private static boolean same(Object a, Object b) {
    if (a instanceof Number x && b instanceof Number y) {
      return x.doubleValue() == y.doubleValue();
    }
    return Objects.equals(a, b);
  }
}
