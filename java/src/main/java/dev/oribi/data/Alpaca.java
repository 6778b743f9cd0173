package dev.oribi.data;

/** The prompts that Stanford's Alpaca was trained with; the answer follows at once, then the end-of-sequence token. */
final class Alpaca {
  private static final String WITH_INPUT =
      "Below is an instruction that describes a task, paired with an input that provides further context. "
          + "Write a response that appropriately completes the request.\n\n"
          + "### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:";
  private static final String WITHOUT_INPUT =
      "Below is an instruction that describes a task. "
          + "Write a response that appropriately completes the request.\n\n"
          + "### Instruction:\n%s\n\n### Response:";

  private Alpaca() {}

  static String prompt(String instruction, String input) {
    return input.isEmpty() ? WITHOUT_INPUT.formatted(instruction) : WITH_INPUT.formatted(instruction, input);
  }
}
