package dev.oribi.cli;

import dev.oribi.io.Json;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** A model of random weights and rows of token ids in a folder, and the command line run on them. */
final class TinyRun {
  private static final int ROWS = 37;

  final Path folder;
  final Path model;
  final Path rows;

  /** What a command printed and the code it returned. */
  record Outcome(int code, String out, String err) {}

  TinyRun(Path folder) throws IOException {
    this.folder = folder;
    this.model = folder.resolve("model");
    this.rows = folder.resolve("rows.jsonl");
    Path shape = Files.createDirectories(folder.resolve("shape"));
    Json.write(shape.resolve("config.json"), TinyModels.small(true).toJson());
    Random random = new Random(3);
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < ROWS; i++) {
      lines.append("{\"input_ids\": ").append(Arrays.toString(random.ints(4 + i % 9, 0, 512).toArray())).append("}\n");
    }
    Files.writeString(rows, lines);
    Outcome made = run("train", "--model", shape.toString(), "--data", rows.toString(), "--from-scratch", "--max-steps=1",
        "--output-dir", model.toString(), "--save-strategy=no", device());
    if (made.code() != 0) {
      throw new IllegalStateException(made.err());
    }
  }

  /** {@code oribi train} on the model and the rows, with further options. */
  List<String> train(Path outputDir, String... options) {
    List<String> arguments = new ArrayList<>(List.of("train", "--model", model.toString(), "--data", rows.toString(),
        "--output-dir", outputDir.toString(), "--per-device-train-batch-size=2", "--gradient-accumulation-steps=2",
        "--lora-dropout=0.1", "--learning-rate=1e-3", "--logging-steps=1", "--lora-r=4", device()));
    arguments.addAll(List.of(options));
    return arguments;
  }

  private static String device() {
    TestMachine.commandRuns();
    return "--device=" + TestMachine.name();
  }

  static Outcome run(List<String> arguments) {
    return run(arguments.toArray(String[]::new));
  }

  /** Runs a command in this process. */
  static Outcome run(String... arguments) {
    PrintStream formerOut = System.out;
    PrintStream formerErr = System.err;
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    try {
      System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
      System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
      int code = Main.run(arguments);
      return new Outcome(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    } finally {
      System.setOut(formerOut);
      System.setErr(formerErr);
    }
  }

  /** Starts a command in a process of its own. */
  static Process start(List<String> arguments) throws IOException {
    return new ProcessBuilder(command(arguments)).redirectErrorStream(true).start();
  }

  /** What starts a command in a process of its own. */
  static List<String> command(List<String> arguments) {
    return command(Main.class, arguments);
  }

  /** Starts a command in a process that is held up at its first line of output. */
  static Process startHeld(List<String> arguments) throws IOException {
    return new ProcessBuilder(command(HeldMain.class, arguments)).redirectErrorStream(true).start();
  }

  private static List<String> command(Class<?> main, List<String> arguments) {
    String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-Xmx512m", "-Djava.awt.headless=true", "-Dorg.bytedeco.javacpp.maxBytes=0",
        "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0", "-cp", classPath));
    String cache = System.getProperty("org.bytedeco.javacpp.cachedir");
    if (cache != null) {
      command.add(1, "-Dorg.bytedeco.javacpp.cachedir=" + cache);
    }
    command.add(main.getName());
    command.addAll(arguments);
    return command;
  }
}
