package dev.oribi.data;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileSystemLoopException;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The files that paths stand for: a file is itself, a folder its data files but for what runs wrote into it, a pattern with {@code *}
 * or {@code ?} in the last name what it matches. In a folder whose files are named by their part ({@code train-00000-of-00002.parquet}, {@code valid.jsonl},
 * {@code test.csv}) the training part is taken to train on and the validation part to evaluate with; the test part never.
 */
public final class DataFiles {
  private static final int MAX_DEPTH = 16;
  /** A folder with a run in it: what it wrote there, logs and states in JSON, is no data. */
  private static final String RUN = "oribi-config.yaml";
  private static final Pattern DATA = Pattern.compile(".*\\.(jsonl|json|ndjson|csv|tsv|parquet|txt)(\\.gz)?");
  private static final Pattern TRAIN = part("train|training");
  private static final Pattern VALIDATION = part("valid|validation|val|dev|eval");
  private static final Pattern TEST = part("test|testing");

  /** What files are wanted for. */
  public enum Part { TRAIN, VALIDATION }

  private DataFiles() {}

  /** A name with one of these words in it, set off as Hugging Face's datasets want it. */
  private static Pattern part(String words) {
    return Pattern.compile("(.*[-._ 0-9])?(" + words + ")([-._ 0-9].*)?");
  }

  /**
   * The files, in the order of the paths, those of a folder by name.
   *
   * @throws OribiException that names the path that leads to no file
   */
  public static List<Path> resolve(List<Path> paths, Part part) {
    List<Path> files = new ArrayList<>();
    for (Path path : paths) {
      if (Files.isDirectory(path)) {
        files.addAll(inFolder(path, part));
      } else if (isPattern(path)) {
        files.addAll(matching(path));
      } else if (Files.exists(path)) {
        files.add(path);
      } else {
        throw new OribiException("There is no data file " + path + "." + near(path));
      }
    }
    return files;
  }

  /** The files for validation in the folders among the paths, empty if their names tell none. */
  public static List<Path> validation(List<Path> paths) {
    List<Path> files = new ArrayList<>();
    for (Path path : paths) {
      if (Files.isDirectory(path)) {
        dataFiles(path).stream().filter(f -> is(VALIDATION, path, f) && !is(TRAIN, path, f)).forEach(files::add);
      }
    }
    return files;
  }

  /** The files of the folders among the paths that are neither trained on nor among {@code held}. */
  public static List<Path> leftOut(List<Path> paths, List<Path> held) {
    List<Path> files = new ArrayList<>();
    for (Path path : paths) {
      if (Files.isDirectory(path)) {
        files.addAll(dataFiles(path));
      }
    }
    files.removeAll(resolve(paths, Part.TRAIN));
    files.removeAll(held);
    return files;
  }

  private static List<Path> inFolder(Path folder, Part part) {
    List<Path> all = dataFiles(folder);
    if (all.isEmpty()) {
      throw new OribiException("The folder " + folder + " has no data file in it: names end in .jsonl, .json, .csv, .tsv, .parquet"
          + " or .txt, maybe with .gz behind.");
    }
    List<Path> train = all.stream().filter(f -> is(TRAIN, folder, f)).toList();
    List<Path> validation = all.stream().filter(f -> is(VALIDATION, folder, f)).toList();
    if (part == Part.VALIDATION && !validation.isEmpty()) {
      return validation;
    }
    if (train.isEmpty()) {
      return all.stream().filter(f -> part == Part.VALIDATION || !is(VALIDATION, folder, f) && !is(TEST, folder, f)).toList();
    }
    return train;
  }

  /** Whether the file, or a folder between it and the one that was given, has such a name. */
  private static boolean is(Pattern names, Path folder, Path file) {
    for (Path name : folder.relativize(file)) {
      if (names.matcher(name.toString().toLowerCase(Locale.ROOT)).matches()) {
        return true;
      }
    }
    return false;
  }

  private static List<Path> dataFiles(Path folder) {
    List<Path> files = new ArrayList<>();
    try {
      Files.walkFileTree(folder, EnumSet.of(FileVisitOption.FOLLOW_LINKS), MAX_DEPTH, new SimpleFileVisitor<>() {
        @Override
        public FileVisitResult preVisitDirectory(Path inner, BasicFileAttributes attributes) {
          boolean run = !inner.equals(folder) && Files.exists(inner.resolve(RUN));
          return run ? FileVisitResult.SKIP_SUBTREE : FileVisitResult.CONTINUE;
        }

        @Override
        public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
          String name = file.getFileName().toString().toLowerCase(Locale.ROOT);
          if (attributes.isRegularFile() && !name.startsWith(".") && DATA.matcher(name).matches()) {
            files.add(file);
          }
          return FileVisitResult.CONTINUE;
        }

        @Override
        public FileVisitResult visitFileFailed(Path file, IOException e) throws IOException {
          if (e instanceof FileSystemLoopException) {
            return FileVisitResult.CONTINUE; // what it leads to was seen
          }
          throw e;
        }
      });
    } catch (IOException e) {
      throw new OribiException("The folder " + folder + " cannot be listed: " + e.getMessage() + ".", e);
    }
    return files.stream().sorted().toList();
  }

  /** Whether a path names files by a pattern. */
  public static boolean isPattern(Path path) {
    String name = path.getFileName() == null ? "" : path.getFileName().toString();
    return !Files.exists(path) && (name.contains("*") || name.contains("?"));
  }

  private static List<Path> matching(Path pattern) {
    Path folder = pattern.getParent() == null ? Path.of(".") : pattern.getParent();
    List<Path> files = new ArrayList<>();
    try (DirectoryStream<Path> found = Files.newDirectoryStream(folder, pattern.getFileName().toString())) {
      found.forEach(file -> files.add(pattern.getParent() == null ? file.getFileName() : file));
    } catch (IOException | java.util.regex.PatternSyntaxException e) {
      throw new OribiException("No data file matches " + pattern + ": " + e.getMessage() + ".", e);
    }
    files.removeIf(file -> !Files.isRegularFile(file));
    if (files.isEmpty()) {
      throw new OribiException("No data file matches " + pattern + ".");
    }
    return files.stream().sorted().toList();
  }

  /** What a mistyped name may have meant. */
  private static String near(Path path) {
    Path folder = path.getParent() == null ? Path.of(".") : path.getParent();
    if (!Files.isDirectory(folder)) {
      return " There is no folder " + folder + " either.";
    }
    List<String> names = dataFilesIn(folder);
    return names.isEmpty() ? "" : " In " + folder + " there is " + String.join(", ", names) + ".";
  }

  private static List<String> dataFilesIn(Path folder) {
    try (Stream<Path> all = Files.list(folder)) {
      return all.filter(Files::isRegularFile).map(f -> f.getFileName().toString())
          .filter(name -> DATA.matcher(name.toLowerCase(Locale.ROOT)).matches()).sorted().limit(5).toList();
    } catch (IOException e) {
      return List.of();
    }
  }
}
