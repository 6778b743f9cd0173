package dev.oribi.testing;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * llama.cpp as a reader of our GGUF files: the published build of it that {@code ci/llama-cpp/install} fetches into the folder of
 * the property {@code oribi.llamaCpp}, run by {@code ci/llama-cpp/logits.mjs}.
 */
public final class LlamaCpp {
  private static final int MINUTES = 5;

  private final Path library;
  private final Path folder;
  private int asked;

  private LlamaCpp(Path library, Path folder) {
    this.library = library;
    this.folder = folder;
  }

  /**
   * Skips the test if llama.cpp is not there.
   *
   * @param folder takes what goes there and back
   */
  public static LlamaCpp find(Path folder) {
    String where = System.getProperty("oribi.llamaCpp", "");
    assumeTrue(!where.isEmpty() && Files.isDirectory(Path.of(where, "node_modules")),
        "llama.cpp is not there: run ci/llama-cpp/install and set oribi.llamaCpp");
    return new LlamaCpp(Path.of(where), folder);
  }

  /**
   * A file to run.
   *
   * @param lora an adapter file, or null
   * @param tokens to continue each text with
   * @param logits whether they are asked for; of a large vocabulary they take seconds
   */
  public record Job(Path model, Path lora, List<String> texts, int tokens, boolean logits) {
    public Job(Path model, Path lora, List<String> texts, int tokens) {
      this(model, lora, texts, tokens, true);
    }
  }

  /**
   * What it says of a text.
   *
   * @param ids its tokens
   * @param continued those that follow, always the likeliest, up to one that ends a text
   * @param logits [tokens of the text, V]; without them no rows
   */
  public record Answer(int[] ids, List<Integer> continued, float[][] logits) {}

  /** One process for all jobs; an answer a text of each. */
  public List<List<Answer>> run(List<Job> jobs) throws IOException, InterruptedException {
    Path in = folder.resolve("jobs-" + asked++);
    Path out = folder.resolve("answers");
    Path err = folder.resolve("errors");
    List<String> lines = new ArrayList<>();
    List<Path> logits = new ArrayList<>();
    for (Job job : jobs) {
      logits.add(job.logits ? folder.resolve(in.getFileName() + "-logits-" + logits.size()) : null);
      lines.add(Json.compact(json(job, logits.get(logits.size() - 1))));
    }
    Files.write(in, lines);
    Process process = new ProcessBuilder("node", "logits.mjs").directory(library.toFile()).redirectInput(in.toFile())
        .redirectOutput(out.toFile()).redirectError(err.toFile()).start();
    try {
      assertThat(process.waitFor(MINUTES, TimeUnit.MINUTES)).as("llama.cpp ends").isTrue();
    } finally {
      process.destroyForcibly();
    }
    assertThat(process.exitValue()).as(Files.readString(err)).isZero();
    List<List<Answer>> answers = new ArrayList<>();
    for (String line : Files.readAllLines(out)) {
      answers.add(answers(Json.parse(line, "llama.cpp"), logits.get(answers.size())));
    }
    assertThat(answers).hasSameSizeAs(jobs);
    return answers;
  }

  public List<Answer> run(Job job) throws IOException, InterruptedException {
    return run(List.of(job)).get(0);
  }

  private static ObjectNode json(Job job, Path logits) {
    ObjectNode json = Json.object().put("model", job.model.toAbsolutePath().toString());
    json.put("lora", job.lora == null ? null : job.lora.toAbsolutePath().toString());
    job.texts.forEach(json.putArray("texts")::add);
    return json.put("tokens", job.tokens).put("logits", logits == null ? null : logits.toAbsolutePath().toString());
  }

  private static List<Answer> answers(JsonNode said, Path logits) throws IOException {
    int vocabulary = said.path("vocabulary").asInt();
    byte[] bytes = logits == null ? new byte[0] : Files.readAllBytes(logits);
    FloatBuffer values = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    List<Answer> answers = new ArrayList<>();
    for (JsonNode text : said.path("texts")) {
      int[] ids = ids(text.path("ids"));
      float[][] rows = new float[logits == null ? 0 : ids.length][vocabulary];
      for (float[] row : rows) {
        values.get(row);
      }
      answers.add(new Answer(ids, Arrays.stream(ids(text.path("continued"))).boxed().toList(), rows));
    }
    assertThat(values.hasRemaining()).isFalse();
    if (logits != null) {
      Files.delete(logits);
    }
    return answers;
  }

  private static int[] ids(JsonNode list) {
    int[] ids = new int[list.size()];
    Arrays.setAll(ids, i -> list.get(i).asInt());
    return ids;
  }
}
