package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.train.FineTuning;
import dev.oribi.train.TrainConfig;
import dev.oribi.train.Trainer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;

/** {@code oribi train}: a training run, and what it changed. */
@Command(
    name = "train",
    description = "Fine-tunes a model on your data: a LoRA adapter, or every weight with --full.",
    footer = {
      "",
      "Examples:",
      "  oribi train                                   Oribi's own tiny model, in two minutes",
      "  oribi train --model DIR --data rows.jsonl     an adapter for your model, in oribi-output",
      "  oribi train --config run.yaml --lora-r 32     the options of a file, but for one",
      "  oribi train --config run.yaml --resume        go on after an interruption",
      "",
      "The output folder gets the adapter (or the model), train.jsonl with a line a logging step,",
      "trainer_state.json, loss.png, oribi-config.yaml with every option, and folders checkpoint-N.",
      "Ctrl-C and SIGTERM save a checkpoint before the process ends, with exit code 130 or 143."
    },
    sortOptions = false)
final class TrainCommand extends TrainOptions implements Callable<Integer> {
  private static final int ANSWER_TOKENS = 48;
  private static final int CONTEXT = 512;
  /** What a shell reports for a process that Ctrl-C ended. */
  private static final int INTERRUPTED = 130;

  @Override
  public Integer call() {
    TrainConfig config = resolve();
    config.check();
    boolean resumes = config.resume || config.resumeFromCheckpoint != null;
    if (config.prompts != null && !resumes && !config.fromScratch) {
      show("Before training:", config, config.model, config.adapter);
    }
    try (FineTuning run = FineTuning.open(config, System.out)) {
      Trainer.Result result = run.train();
      if (!result.finished()) {
        return INTERRUPTED;
      }
    }
    if (config.prompts != null) {
      boolean full = config.trainsAllWeights();
      show("After training:", config, full ? config.outputDir : config.model, full ? null : config.outputDir);
    }
    return 0;
  }

  /** The likeliest answer to each prompt. */
  private static void show(String title, TrainConfig config, Path model, Path adapter) {
    List<String> prompts = prompts(config.prompts);
    TextModel.Storage storage = new TextModel.Storage(config.loadIn4bit, config.headIn8bit);
    try (TextModel text = TextModel.open(model, adapter, storage, config.machine(), CONTEXT)) {
      System.out.println(title);
      for (String prompt : prompts) {
        StringBuilder answer = new StringBuilder();
        if (text.template().isPresent()) {
          text.chat(ModelOptions.user(prompt), text.greedy(ANSWER_TOKENS), answer::append);
        } else {
          text.complete(prompt, text.greedy(ANSWER_TOKENS), answer::append);
        }
        System.out.println("  " + prompt);
        System.out.println("    -> " + answer.toString().strip().replaceAll("\\s*\\R\\s*", " "));
      }
      System.out.println();
    }
  }

  private static List<String> prompts(Path file) {
    try {
      return Files.readAllLines(file).stream().map(String::strip).filter(line -> !line.isEmpty()).toList();
    } catch (IOException e) {
      throw new OribiException("--prompts " + file + ": cannot be read; give a UTF-8 text file with a prompt a line.", e);
    }
  }
}
