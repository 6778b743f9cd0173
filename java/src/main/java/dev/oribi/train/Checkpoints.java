package dev.oribi.train;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The folders {@code checkpoint-N} of a run, N being the optimizer steps made.
 *
 * <p>A checkpoint holds
 * <ul>
 *   <li>the adapter or the model, as the run would leave it at its end, to be used by itself;
 *   <li>{@code optimizer.safetensors}: the trained values and AdamW's moments, exactly ({@link OptimizerFile});
 *   <li>{@code oribi_state.json}: counters, configuration, the fingerprint of the data;
 *   <li>{@code trainer_state.json}: the same in Hugging Face's fields, with the log so far;
 *   <li>{@code complete.json}: written last; the sizes of all the others.
 * </ul>
 * The folder is filled under another name and renamed when whole, so that a run that dies at any moment leaves the
 * checkpoints before it as they were.
 */
final class Checkpoints {
  static final String STATE = "oribi_state.json";
  static final String TRAINER_STATE = "trainer_state.json";
  static final String OPTIMIZER = "optimizer.safetensors";
  static final String MARKER = "complete.json";

  private static final Pattern NAME = Pattern.compile("checkpoint-(\\d{1,9})");
  private static final Pattern LEFTOVER = Pattern.compile("\\.(checkpoint-\\d+)\\.(tmp-.*|old-.*|deleted)");
  private static final ObjectMapper MAPPER = new ObjectMapper();

  private final Path outputDir;
  private final int limit;

  /**
   * @param limit checkpoints to keep, 0 for all
   */
  Checkpoints(Path outputDir, int limit) {
    this.outputDir = outputDir;
    this.limit = limit;
  }

  /**
   * What must be the same for a run to go on.
   *
   * @param config values of {@link ResolvedConfig}
   * @param dataFingerprint of the training rows
   * @param device {@link TrainStep#describe()}; another one is allowed, but may round in another way
   */
  record Identity(Map<String, Object> config, String dataFingerprint, String device) {}

  /** Everything that a run needs to go on from where a checkpoint was made, but for the tensors. */
  record Loaded(RunState state, List<Map<String, Number>> history, String device) {}

  Path folder(int step) {
    return outputDir.resolve("checkpoint-" + step);
  }

  /** Writes the checkpoint of this state unless it is there, then deletes the oldest beyond the limit. */
  Path save(RunState state, TrainStep step, ModelWriter model, Identity identity, ObjectNode trainerState) {
    Path target = folder(state.step());
    if (!isComplete(target)) {
      delete(target);
      AtomicFiles.directory(target, folder -> {
        model.write(folder);
        OptimizerFile.write(folder.resolve(OPTIMIZER), step);
        ObjectNode own = MAPPER.createObjectNode();
        own.set("state", MAPPER.valueToTree(state));
        own.set("config", MAPPER.valueToTree(identity.config()));
        own.put("data_fingerprint", identity.dataFingerprint()).put("device", identity.device());
        Files.writeString(folder.resolve(STATE), Json.pretty(own));
        Files.writeString(folder.resolve(TRAINER_STATE), Json.pretty(trainerState));
        Files.writeString(folder.resolve(MARKER), Json.pretty(sizes(folder)));
      });
    }
    deleteOldest(target);
    return target;
  }

  /** The whole checkpoint with the highest number. */
  Optional<Path> last() {
    List<Path> all = list();
    return all.isEmpty() ? Optional.empty() : Optional.of(all.get(all.size() - 1));
  }

  /**
   * Reads a checkpoint and puts its tensors into {@code step}.
   *
   * @param identity what {@link #save} was given; a difference that changes the numbers is refused
   */
  static Loaded load(Path folder, TrainStep step, Identity identity) {
    if (!isComplete(folder)) {
      throw new OribiException(folder + " is no whole checkpoint: " + MARKER + " is missing, or a file has not the size"
          + " that it names; go on from another one.");
    }
    JsonNode own = Json.read(folder.resolve(STATE));
    Map<String, Object> config = MAPPER.convertValue(own.get("config"), new TypeReference<Map<String, Object>>() {});
    ResolvedConfig.checkSame(config, identity.config(), folder);
    if (!own.path("data_fingerprint").asText().equals(identity.dataFingerprint())) {
      throw new OribiException(folder + " was made with other training data (--data): give the files as they were, or"
          + " another --output-dir.");
    }
    OptimizerFile.read(folder.resolve(OPTIMIZER), step);
    RunState state = MAPPER.convertValue(own.get("state"), RunState.class);
    return new Loaded(state, history(folder), own.path("device").asText());
  }

  /** Deletes what a run that died left half-written or half-deleted; a run that goes on in this folder keeps what is its own. */
  void deleteLeftovers() {
    for (Path path : children()) {
      Matcher name = LEFTOVER.matcher(path.getFileName().toString());
      if (name.matches() && name.group(2).equals("deleted")) {
        AtomicFiles.deleteTree(path);
      } else if (name.matches()) {
        AtomicFiles.recover(outputDir.resolve(name.group(1)));
      }
    }
  }

  /** Deletes every checkpoint. */
  void deleteAll() {
    for (Path path : children()) {
      if (NAME.matcher(path.getFileName().toString()).matches()) {
        delete(path);
      }
    }
  }

  // -------------------------------------------------------------------------------------------------------------- parts

  private static List<Map<String, Number>> history(Path folder) {
    JsonNode history = Json.read(folder.resolve(TRAINER_STATE)).path("log_history");
    return MAPPER.convertValue(history, new TypeReference<List<Map<String, Number>>>() {});
  }

  private static ObjectNode sizes(Path folder) throws IOException {
    ObjectNode sizes = MAPPER.createObjectNode();
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.filter(Files::isRegularFile).sorted().toList()) {
        sizes.put(folder.relativize(file).toString(), Files.size(file));
      }
    }
    return sizes;
  }

  private static boolean isComplete(Path folder) {
    Path marker = folder.resolve(MARKER);
    if (!Files.isRegularFile(marker)) {
      return false;
    }
    for (Map.Entry<String, JsonNode> entry : Json.read(marker).properties()) {
      if (folder.resolve(entry.getKey()).toFile().length() != entry.getValue().asLong(-1)) {
        return false;
      }
    }
    return true;
  }

  /** Whole checkpoints, by number. */
  private List<Path> list() {
    return children().stream()
        .filter(path -> NAME.matcher(path.getFileName().toString()).matches() && isComplete(path))
        .sorted(Comparator.comparingInt(Checkpoints::number))
        .toList();
  }

  private static int number(Path path) {
    Matcher matcher = NAME.matcher(path.getFileName().toString());
    return matcher.matches() ? Integer.parseInt(matcher.group(1)) : -1;
  }

  private List<Path> children() {
    if (!Files.isDirectory(outputDir)) {
      return List.of();
    }
    try (Stream<Path> paths = Files.list(outputDir)) {
      return paths.toList();
    } catch (IOException e) {
      throw new OribiException(outputDir + ": the folder cannot be listed; check its permissions.", e);
    }
  }

  private void deleteOldest(Path newest) {
    List<Path> all = list();
    for (int i = 0; limit > 0 && i < all.size() - limit; i++) {
      if (!all.get(i).equals(newest)) {
        delete(all.get(i));
      }
    }
  }

  /** Renames before it deletes, so that no half of a checkpoint ever carries its name. */
  private void delete(Path checkpoint) {
    if (!Files.exists(checkpoint)) {
      return;
    }
    Path doomed = outputDir.resolve("." + checkpoint.getFileName() + ".deleted");
    AtomicFiles.deleteTree(doomed);
    try {
      Files.move(checkpoint, doomed);
    } catch (IOException e) {
      throw new OribiException(checkpoint + ": the checkpoint cannot be deleted; check its permissions.", e);
    }
    AtomicFiles.deleteTree(doomed);
  }
}
