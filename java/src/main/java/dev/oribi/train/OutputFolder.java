package dev.oribi.train;

import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/** The output folder at the beginning of a run. */
final class OutputFolder {
  /** Files that say that there is a run in the folder. */
  private static final List<String> TRACES =
      List.of(TrainLog.FILE, Trainer.CONFIG_FILE, Checkpoints.TRAINER_STATE, LossPlot.FILE);

  private static final String STAGING = "result";
  /** What an earlier run left as its result. */
  private static final String RESULT = "{model*.safetensors*,adapter_model.safetensors,adapter_config.json}";

  private OutputFolder() {}

  /**
   * Makes the folder if need be, and says which checkpoint to go on from.
   *
   * @throws OribiException if there is a run in it and nothing says what to do with it
   */
  static Optional<Path> prepare(TrainConfig config, Checkpoints checkpoints) {
    create(config.outputDir);
    checkpoints.deleteLeftovers();
    AtomicFiles.recover(config.outputDir.resolve(STAGING));
    Optional<Path> given = Optional.ofNullable(config.resumeFromCheckpoint);
    if (given.isPresent() && isIn(config.outputDir, given.get())) {
      return given;
    }
    if (config.resume) {
      return given.or(checkpoints::last);
    }
    boolean taken = checkpoints.last().isPresent() || hasResult(config.outputDir)
        || TRACES.stream().anyMatch(name -> Files.exists(config.outputDir.resolve(name)));
    if (taken && !config.overwriteOutputDir) {
      throw new OribiException(config.outputDir + " has a run in it: go on with --resume, delete it with"
          + " --overwrite-output-dir, or give another --output-dir.");
    }
    checkpoints.deleteAll();
    deleteFormerRun(config.outputDir);
    return given;
  }

  /** Whether a checkpoint is one of this folder's run. */
  static boolean isIn(Path outputDir, Path checkpoint) {
    Path parent = checkpoint.toAbsolutePath().normalize().getParent();
    try {
      return parent != null && (parent.equals(outputDir.toAbsolutePath().normalize()) || Files.isSameFile(parent, outputDir));
    } catch (IOException e) {
      return false; // one of them is not there
    }
  }

  /** Whether a run whose folder this is writes or deletes a file of this name in it. */
  static boolean writes(Path name) {
    return TRACES.contains(name.toString()) || FileSystems.getDefault().getPathMatcher("glob:" + RESULT).matches(name);
  }

  private static boolean hasResult(Path outputDir) {
    try (DirectoryStream<Path> result = Files.newDirectoryStream(outputDir, RESULT)) {
      return result.iterator().hasNext();
    } catch (IOException e) {
      throw new OribiException(outputDir + ": the folder cannot be listed; check its permissions.", e);
    }
  }

  private static void deleteFormerRun(Path outputDir) {
    try (DirectoryStream<Path> result = Files.newDirectoryStream(outputDir, RESULT)) {
      for (Path file : result) {
        Files.delete(file);
      }
      for (String name : TRACES) {
        Files.deleteIfExists(outputDir.resolve(name));
      }
    } catch (IOException e) {
      throw new OribiException(outputDir + ": the former run cannot be deleted (" + e.getMessage() + ").", e);
    }
  }

  /** Puts the result into the folder, each file whole: written into a folder of its own first, then moved. */
  static void publish(Path outputDir, ModelWriter model) {
    AtomicFiles.scratch(outputDir.resolve(STAGING), staging -> {
      model.write(staging);
      try (Stream<Path> files = Files.list(staging)) {
        for (Path file : files.sorted().toList()) {
          Files.move(file, outputDir.resolve(file.getFileName()), StandardCopyOption.ATOMIC_MOVE,
              StandardCopyOption.REPLACE_EXISTING);
        }
      }
    });
  }

  private static void create(Path folder) {
    try {
      Files.createDirectories(folder);
    } catch (IOException e) {
      throw new OribiException("The output folder " + folder + " cannot be made: give another --output-dir.", e);
    }
  }
}
