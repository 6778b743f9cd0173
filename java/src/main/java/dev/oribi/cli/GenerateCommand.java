package dev.oribi.cli;

import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi generate}: goes on from a text. */
@Command(
    name = "generate",
    description = "Continues a text, or answers a question with the model's chat template.",
    footer = {
      "",
      "On a CPU, products with the blocks of a GGUF file round their input to 8 bits, as llama.cpp does.",
      "",
      "Examples:",
      "  oribi generate --model DIR --prompt \"Once upon a time\"",
      "  oribi generate --model DIR --adapter oribi-output --chat --prompt \"Who are you?\""
    },
    sortOptions = false)
final class GenerateCommand implements Callable<Integer> {
  @Mixin private ModelOptions model;

  @Mixin private SamplingOptions sampling;

  @Option(names = "--prompt", paramLabel = "TEXT", required = true, description = "Where to go on from.")
  private String prompt;

  @Option(names = "--chat", description = "The prompt is a user's message: render it with the chat template.")
  private boolean chat;

  @Override
  public Integer call() {
    try (TextModel text = model.open()) {
      int[] ids = chat ? text.chatPrompt(ModelOptions.user(prompt)) : text.tokenizer().encode(prompt, true);
      Generator.Options options = sampling.options(text);
      text.requireRoom(ids);
      if (!chat) {
        print(prompt);
      }
      text.answer(ids, options, sampling.stops, GenerateCommand::print);
      System.out.println();
    }
    return 0;
  }

  /** Shows a piece at once; false: nobody reads it any more. */
  static boolean print(String piece) {
    System.out.print(piece);
    return !System.out.checkError();
  }
}
