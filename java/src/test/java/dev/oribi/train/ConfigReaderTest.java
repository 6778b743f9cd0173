package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.optim.OptimizerType;
import dev.oribi.optim.SchedulerType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ConfigReaderTest {
  @TempDir Path folder;

  @Test
  void hasDefaults() {
    TrainConfig config = ConfigReader.read();
    assertThat(config.learningRate).isNull();
    assertThat(config.peakLearningRate()).isEqualTo(2e-4);
    assertThat(ConfigReader.read("--full").peakLearningRate()).isEqualTo(5e-5);
    assertThat(config.loraR).isEqualTo(16);
    assertThat(config.data).isEmpty();
    assertThat(config.outputDir).isEqualTo(Path.of("oribi-output"));
    config.check();
  }

  @ParameterizedTest
  @ValueSource(strings = {"--learning-rate 3e-5", "--learning_rate 3e-5", "--learning-rate=3e-5", "--learning_rate=3e-5",
      "learning_rate=3e-5", "learning-rate=3e-5", "learning_rate=1 --learning-rate 3e-5"})
  void readsEverySpelling(String line) {
    assertThat(ConfigReader.read(line.split(" ")).learningRate).isEqualTo(3e-5);
  }

  @Test
  void readsSwitchesListsAndNames() {
    TrainConfig config = ConfigReader.read("--packing", "--shuffle", "false", "--use_rslora=true", "--data", "a.json,b.json",
        "--lr-scheduler-type", "Constant_With_Warmup", "--save-strategy", "no", "--weight-decay", "-0.0");
    assertThat(config.packing).isTrue();
    assertThat(config.shuffle).isFalse();
    assertThat(config.useRslora).isTrue();
    assertThat(config.data).containsExactly(Path.of("a.json"), Path.of("b.json"));
    assertThat(config.lrSchedulerType).isEqualTo(SchedulerType.CONSTANT_WITH_WARMUP);
    assertThat(config.saveStrategy).isEqualTo(IntervalStrategy.NO);
  }

  @Test
  void readsYamlAsItIsWritten() throws IOException {
    TrainConfig config = ConfigReader.read("--config", yaml("""
        # a run
        learning_rate: 1e-4
        save_strategy: no        # YAML 1.1 calls this false
        packing: on
        shuffle: "false"
        adapter:
        target_modules: [q_proj, v_proj]
        data:
          - a.jsonl
          - b.jsonl
        num_train_epochs: 1.5
        """));
    assertThat(config.learningRate).isEqualTo(1e-4);
    assertThat(config.saveStrategy).isEqualTo(IntervalStrategy.NO);
    assertThat(config.packing).isTrue();
    assertThat(config.shuffle).isFalse();
    assertThat(config.adapter).isNull();
    assertThat(config.targetModulesValue()).isEqualTo(List.of("q_proj", "v_proj"));
    assertThat(config.data).containsExactly(Path.of("a.jsonl"), Path.of("b.jsonl"));
    assertThat(config.numTrainEpochs).isEqualTo(1.5);
  }

  @Test
  void letsTheCommandLineWin() throws IOException {
    String file = yaml("learning_rate: 1e-4\npacking: true\ndata: [a.jsonl, b.jsonl]\nseed: 7\n");
    TrainConfig config = ConfigReader.read("--packing=false", "--config", file, "data=c.jsonl", "--learning_rate", "2e-4");
    assertThat(config.learningRate).isEqualTo(2e-4);
    assertThat(config.packing).isFalse();
    assertThat(config.data).containsExactly(Path.of("c.jsonl"));
    assertThat(config.seed).isEqualTo(7);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '`', value = {
      "`learning_rat: 1`               | :1: unknown key 'learning_rat': did you mean 'learning_rate'?",
      "`seed: 1;lora_rank: 4`          | :2: unknown key 'lora_rank': did you mean 'lora_",
      "`seed: many`                    | :1: Invalid value for option '--seed'",
      "`seed: 1;seed: 2`               | :2: the key 'seed' stands in the file twice",
      "`seed: [1, 2]`                  | :1: seed takes one plain value",
      "`seed: {a: 1}`                  | :1: seed takes one plain value",
      "`data: [[a]]`                   | :1: data takes a list of plain values",
      "`lr_scheduler_type: polynomial` | :1: Invalid value for option '--lr-scheduler-type'",
      "`packing: perhaps`              | :1: Invalid value for option '--packing'",
      "`config: other.yaml`            | :1: unknown key 'config'",
      "`[a, b]`                        | : this is no list of options",
      "`a: b: c`                       | :1: this is no YAML",
  })
  void namesFileAndLineOfAWrongEntry(String yaml, String message) throws IOException {
    String file = yaml(yaml.replace(';', '\n'));
    assertThatThrownBy(() -> ConfigReader.read("--config", file)).isInstanceOf(OribiException.class)
        .hasMessageStartingWith(file + message);
  }

  @Test
  void namesTheNearestOption() {
    assertThatThrownBy(() -> ConfigReader.read("--learning-rte", "1")).isInstanceOf(OribiException.class)
        .hasMessage("Unknown option '--learning-rte': did you mean '--learning-rate'?");
    assertThatThrownBy(() -> ConfigReader.read("lora_alfa=1")).isInstanceOf(OribiException.class)
        .hasMessageContaining("'--lora-alpha'");
    assertThatThrownBy(() -> ConfigReader.read("--config", "missing.yaml")).isInstanceOf(OribiException.class)
        .hasMessageContaining("missing.yaml");
    assertThatThrownBy(() -> ConfigReader.read("--seed")).isInstanceOf(OribiException.class)
        .hasMessageContaining("--seed");
  }

  @ParameterizedTest
  @CsvSource({"--lora-r=0,--lora-r", "--lora-dropout=1,--lora-dropout", "--learning-rate=NaN,--learning-rate",
      "--learning-rate=-1,--learning-rate", "--max-grad-norm=-1,--max-grad-norm", "--warmup-ratio=1.1,--warmup-ratio",
      "--num-train-epochs=0,--num-train-epochs", "--max-seq-length=1,--max-seq-length", "--logging-steps=0,--logging-steps",
      "--eval-fraction=1,--eval-fraction", "--adam-beta2=1,--adam-beta2"})
  void refusesValuesThatNoRunCanHave(String option, String named) {
    assertThatThrownBy(() -> ConfigReader.read(option).check()).isInstanceOf(OribiException.class)
        .hasMessageStartingWith(named + " is ").hasMessageContaining("it must be");
  }

  @Test
  void knowsTheOptimizersByHuggingFacesNames() {
    assertThat(ConfigReader.read().optim).isEqualTo(OptimizerType.ADAMW_TORCH);
    assertThat(ConfigReader.read("optim=adamw_8bit").optim).isEqualTo(OptimizerType.ADAMW_8BIT);
    TrainConfig other = ConfigReader.read("--optim", "adamw_bnb_8bit");
    assertThat(other.optim).isEqualTo(OptimizerType.ADAMW_8BIT);
    assertThat(other.toYaml()).contains("optim: adamw_8bit");
    assertThatThrownBy(() -> ConfigReader.read("--optim", "sgd")).isInstanceOf(OribiException.class)
        .hasMessageContaining("--optim").hasMessageContaining("sgd").hasMessageContaining("adamw_8bit");
  }

  @Test
  void refusesOptionsThatExcludeEachOther() {
    for (String line : List.of("--full --adapter a", "--eval-fraction 0.1 --eval-data e", "--resume --overwrite-output-dir",
        "--model m --output-dir ./m", "--adapter a --output-dir a", "--target-modules=",
        "--lr-scheduler-type constant --warmup-steps 5", "--lr-scheduler-type constant --warmup-ratio 0.1", "--min-lr-rate 0.1",
        "--overwrite-output-dir --output-dir a --resume-from-checkpoint a/checkpoint-1")) {
      assertThatThrownBy(() -> ConfigReader.read(line.split(" ")).check()).as(line).isInstanceOf(OribiException.class);
    }
  }

  /** A run deletes and writes train.jsonl in its folder, and reads a folder of data with all that is in it. */
  @Test
  void refusesAnOutputFolderInWhichTheDataWouldBeLost() {
    for (String data : List.of("out/train.jsonl", "./out/../out/train.jsonl", "out", "out/*.jsonl", "b.jsonl,out/train.jsonl")) {
      for (String option : List.of("--data", "--eval-data")) {
        assertThatThrownBy(() -> ConfigReader.read(option, data, "--output-dir", "out", "--resume").check()).as(data)
            .isInstanceOf(OribiException.class).hasMessageContaining("--output-dir is out");
      }
    }
    ConfigReader.read("--data", "out/rows.jsonl", "--output-dir", "out").check();
    ConfigReader.read("--data", "out/rows.jsonl", "--output-dir", "out/run").check();
  }

  @Test
  void readsItsOwnFileAgain() throws IOException {
    TrainConfig config = ConfigReader.read("--data", "a.jsonl,b.jsonl", "--save-strategy=no", "--learning-rate", "3e-5",
        "--target-modules", ".*q_proj", "--modules-to-save", "lm_head", "--seed", "-3", "--model", "m");
    String file = yaml(ResolvedConfig.yaml(ResolvedConfig.values(config)));
    TrainConfig again = ConfigReader.read("--config", file);
    assertThat(ResolvedConfig.values(again)).isEqualTo(ResolvedConfig.values(config));
    assertThat(again.model).isAbsolute();
    assertThat(config.toYaml()).contains("eval_data: []").doesNotContain("&");
  }

  private String yaml(String text) throws IOException {
    return Files.writeString(folder.resolve("run.yaml"), text).toString();
  }
}
