package dev.oribi;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.generate.TextModel;
import dev.oribi.train.FineTuning;
import dev.oribi.train.TrainConfig;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The README's example of the Java API, with fewer steps. */
class ReadmeExampleTest {
  @Test
  void trainsAndAnswers(@TempDir Path temp) {
    Path tiny = Path.of("..", "models", "tiny");
    TrainConfig config = new TrainConfig();
    config.model = tiny.resolve("model");
    config.data = List.of(tiny.resolve("instruct").resolve("train.jsonl"));
    config.outputDir = temp.resolve("my-adapter");
    config.loraR = 8;
    config.maxSteps = 2;
    try (FineTuning run = FineTuning.open(config, System.out)) {
      assertThat(run.plan().bytes()).isPositive();
      assertThat(run.train().finished()).isTrue();
    }
    try (TextModel model = TextModel.open(config.model, config.outputDir, 0, 512)) {
      Map<String, Object> question = Map.of("role", "user", "content", "What is your name?");
      StringBuilder answer = new StringBuilder();
      model.chat(List.of(question), model.greedy(8), answer::append);
      assertThat(answer).isNotEmpty();
    }
  }
}
