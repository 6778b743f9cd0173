package dev.oribi.docs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.cli.Main;
import dev.oribi.io.Json;
import dev.oribi.testing.TestMachine;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * The walk of the guide, from a table to a chat: its five commands are taken out of docs/guide.md and run by a shell as they stand
 * there, each in a process of its own. The server gets a port that is free, and what computes one thread, since threads that wait
 * for each other at every product make a machine crawl that runs other programs too.
 */
class GuideWalkTest {
  private static final Path ROOT = Path.of("..").toAbsolutePath().normalize();
  private static final String HEADING = "## From a table to a chat in five commands";
  private static final Pattern COMMAND = Pattern.compile("(?m)^# (\\d)\\. (.+)\\n(\\./oribi .+)$");
  private static final Pattern QUESTION = Pattern.compile("\"([^\"]+)\" -> \"([^\"]+)\"");
  private static final String ONE_THREAD = " --threads 1";
  private static final int TERMINATED = 128 + 15;

  @TempDir Path folder;

  /** A line of explanation and the command below it. */
  private record Step(String explained, String command) {}

  private static List<Step> steps() throws IOException {
    String guide = Files.readString(ROOT.resolve("docs/guide.md"));
    String chapter = guide.substring(guide.indexOf(HEADING));
    String block = chapter.substring(chapter.indexOf("```sh\n"), chapter.indexOf("\n```\n"));
    Matcher found = COMMAND.matcher(block);
    return found.results().map(r -> new Step(r.group(2), r.group(3))).toList();
  }

  /** A folder as a clone is, where ./oribi runs the classes under test. */
  private void clone(Path into) throws IOException {
    Files.createSymbolicLink(into.resolve("models"), ROOT.resolve("models"));
    String given = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    String classPath = Arrays.stream(given.split(File.pathSeparator)).map(p -> Path.of(p).toAbsolutePath().toString())
        .collect(Collectors.joining(File.pathSeparator));
    String cache = System.getProperty("org.bytedeco.javacpp.cachedir");
    Files.writeString(into.resolve("java.options"), String.join("\n", "-Xmx512m", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8",
        "-Doribi.home=" + ROOT, "-Dorg.bytedeco.javacpp.maxBytes=0", "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
        "-Dorg.bytedeco.javacpp.cachedir=" + (cache != null ? cache : into.resolve("cache")), "-cp", '"' + classPath + '"', Main.class.getName()));
    Path script = Files.writeString(into.resolve("oribi"), "#!/bin/sh\nexport LC_ALL=C.UTF-8" + (TestMachine.isCuda() ? "" : " CUDA_VISIBLE_DEVICES=") + "\nexec '"
        + Path.of(System.getProperty("java.home"), "bin", "java") + "' @java.options \"$@\"\n");
    assertThat(script.toFile().setExecutable(true)).isTrue();
  }

  private Process start(String command) throws IOException {
    return new ProcessBuilder("sh", "-c", "exec " + command).directory(folder.toFile())
        .redirectError(new File(folder.toFile(), "errors")).start();
  }

  private String run(Step step, String input) throws IOException, InterruptedException {
    Process process = start(step.command() + (step.command().contains(" inspect ") ? "" : ONE_THREAD));
    process.getOutputStream().write(input.getBytes(StandardCharsets.UTF_8));
    process.getOutputStream().close();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as(step.command() + "\n" + out + Files.readString(folder.resolve("errors"))).isZero();
    return out;
  }

  @Test
  @Timeout(900)
  void fromATableToAChat() throws Exception {
    TestMachine.commandRuns();
    List<Step> steps = steps();
    assertThat(steps).hasSize(5);
    clone(folder);
    String rows = run(steps.get(0), "");
    assertThat(rows).contains("34 rows from 1 file").contains("german.csv:2: ").contains("<|user|>Wie heißt du?<|end|><|assistant|>›Ich heiße Ori");
    assertThat(run(steps.get(1), "")).contains("the result is in german");
    assertThat(run(steps.get(2), "")).contains("Against the trained model at ").contains("Without the adapter").endsWith("Wrote german.gguf\n");
    Matcher promised = QUESTION.matcher(steps.get(3).explained());
    assertThat(promised.find()).as("a question and its answer in: " + steps.get(3).explained()).isTrue();
    assertThat(run(steps.get(3), promised.group(1) + "\n")).isEqualTo(promised.group(2) + "\n");
    answersTheTable(steps.get(3));
    serves(steps.get(4));
  }

  /** The whole table, letters beyond ASCII and all; a rounding on another processor may cost an answer. */
  private void answersTheTable(Step chat) throws Exception {
    List<String> rows = Files.readAllLines(ROOT.resolve("models/tiny/instruct/german.csv")).stream().skip(1).filter(r -> !r.contains("\"")).toList();
    String questions = String.join("\n", rows.stream().map(r -> r.substring(0, r.indexOf(','))).toList()) + "\n";
    List<String> answers = run(chat, questions).lines().toList();
    assertThat(answers).hasSameSizeAs(rows);
    long right = 0;
    for (int i = 0; i < rows.size(); i++) {
      right += rows.get(i).endsWith("," + answers.get(i)) ? 1 : 0;
    }
    assertThat(right).as("right answers among " + answers).isGreaterThanOrEqualTo(rows.size() - 1);
  }

  /** Whole and in pieces; the letter ü is two tokens, and must not arrive in halves. */
  private void serves(Step serve) throws Exception {
    Process process = start(serve.command() + " --port 0" + ONE_THREAD);
    try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
      Matcher address = Pattern.compile("Listening at (http://[^ ]+)").matcher(String.valueOf(lines.readLine()));
      assertThat(address.find()).as(Files.readString(folder.resolve("errors"))).isTrue();
      String body = "{\"model\": \"german.gguf\", \"temperature\": 0, \"messages\": [{\"role\": \"user\", \"content\": \"Welche Farbe hat das Gras?\"}]";
      String whole = ask(address.group(1), body + "}");
      assertThat(Json.parse(whole, "answer").at("/choices/0/message/content").asText()).isEqualTo("Das Gras ist gr\u00fcn.");
      StringBuilder text = new StringBuilder();
      ask(address.group(1), body + ", \"stream\": true}").lines().filter(l -> l.startsWith("data: {"))
          .forEach(l -> text.append(Json.parse(l.substring(6), "event").at("/choices/0/delta/content").asText("")));
      assertThat(text.toString()).isEqualTo("Das Gras ist gr\u00fcn.");
      process.toHandle().destroy();
      assertThat(process.waitFor(30, TimeUnit.SECONDS)).isTrue();
      assertThat(process.exitValue()).isEqualTo(TERMINATED);
      assertThat(Files.readString(folder.resolve("errors"))).isEmpty();
    } finally {
      process.destroyForcibly();
    }
  }

  private static String ask(String address, String body) throws IOException, InterruptedException {
    return HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(address + "/v1/chat/completions"))
        .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofString(body)).build(),
        HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8)).body();
  }
}
