package dev.oribi.data;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The files that paths stand for: a file is itself, a folder its data files, a pattern with {@code *} or {@code ?} in the last name
 * what it matches. In a folder whose files are named by their part ({@code train-00000-of-00002.parquet}, {@code valid.jsonl},
 * {@code test.csv}) the training part is taken to train on and the validation part to evaluate with; the test part never.
 */
public final class DataFiles {
  private static final int MAX_DEPTH = 4;
  private static final Pattern DATA = Pattern.compile(".*\\.(jsonl|json|ndjson|csv|tsv|parquet|txt)(\\.gz)?");
  private static final Pattern TRAIN = Pattern.compile("train([._-].*)?");
  private static final Pattern VALIDATION = Pattern.compile("(valid|validation|val|dev|eval)([._-].*)?");
  private static final Pattern TEST = Pattern.compile("test([._-].*)?");

  /** What files are wanted for. */
  public enum Part { TRAIN, VALIDATION }

  private DataFiles() {}

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
        List<Path> all = dataFiles(path);
        if (all.stream().anyMatch(f -> is(TRAIN, path, f))) {
          all.stream().filter(f -> is(VALIDATION, path, f)).forEach(files::add);
        }
      }
    }
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
    try (Stream<Path> all = Files.walk(folder, MAX_DEPTH)) {
      return all.filter(Files::isRegularFile).filter(f -> !f.getFileName().toString().startsWith("."))
          .filter(f -> DATA.matcher(f.getFileName().toString().toLowerCase(Locale.ROOT)).matches()).sorted().toList();
    } catch (IOException | java.io.UncheckedIOException e) {
      throw new OribiException("The folder " + folder + " cannot be listed: " + e.getMessage() + ".", e);
    }
  }

  private static boolean isPattern(Path path) {
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
