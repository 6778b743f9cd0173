package dev.oribi.cli;

import dev.oribi.OribiException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** The tiny model and its instructions that come with Oribi: what the commands use when no folder is named. */
final class Embedded {
  /** Folder of the repository or of the distribution; the launcher sets it. */
  private static final String HOME = "oribi.home";

  private Embedded() {}

  static Path model() {
    return at("models/tiny/model");
  }

  static List<Path> data() {
    return List.of(at("models/tiny/instruct/train.jsonl"));
  }

  static List<Path> evalData() {
    return List.of(at("models/tiny/instruct/heldout.jsonl"));
  }

  /** Questions that are shown before and after training, one a line. */
  static Path prompts() {
    return at("models/tiny/instruct/prompts.txt");
  }

  private static Path at(String relative) {
    Path path = Path.of(System.getProperty(HOME, ".")).resolve(relative);
    if (!Files.exists(path)) {
      throw new OribiException("no --model is given and Oribi's own is not at " + path + ": give --model DIR");
    }
    return path;
  }
}
