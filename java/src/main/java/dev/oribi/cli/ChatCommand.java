package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi chat}: a conversation on the terminal; the cache is kept from turn to turn. */
@Command(
    name = "chat",
    description = "Talks with a model, line by line. /new begins again, /adapter off and /adapter on take the adapter off and put it"
        + " on, /exit or the end of the input ends.",
    footer = {
      "",
      "On a CPU, products with the blocks of a GGUF file round their input to 8 bits, as llama.cpp does."
    },
    sortOptions = false)
final class ChatCommand implements Callable<Integer> {
  @Mixin private ModelOptions model;

  @Mixin private SamplingOptions sampling;

  @Option(names = "--system", paramLabel = "TEXT", description = "What the model is told before the conversation.")
  private String system;

  @Option(names = "--no-history", description = "Take each line for the first one of a conversation, for models that were taught single questions.")
  private boolean noHistory;

  @Override
  public Integer call() throws IOException {
    try (TextModel text = model.open()) {
      if (text.template().isEmpty()) {
        throw new OribiException(
            model.folder() + " has no chat template: put a chat_template.jinja there, or use `oribi generate`");
      }
      sampling.options(text); // wrong ones are told before anybody types a question
      if (system != null) {
        List<Map<String, Object>> messages = begin();
        messages.addAll(ModelOptions.user("Hello"));
        text.chatPrompt(messages); // and so is that the template takes no such message
      }
      talk(text, new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)));
      return 0;
    }
  }

  private void talk(TextModel text, BufferedReader in) throws IOException {
    boolean terminal = System.console() != null;
    if (terminal) {
      System.out.println("/new begins again, /exit ends.");
    }
    List<Map<String, Object>> messages = begin();
    while (true) {
      if (!GenerateCommand.print(terminal ? "> " : "")) {
        return;
      }
      String line = in.readLine();
      if (line == null || line.strip().equals("/exit")) {
        return;
      }
      if (line.isBlank()) {
        continue;
      }
      if (line.strip().equals("/new")) {
        messages = begin();
      } else if (line.strip().startsWith("/adapter")) {
        switchAdapter(text, line.strip());
      } else {
        messages = noHistory ? begin() : messages;
        answer(text, messages, line);
      }
    }
  }

  /** A conversation that has become too long does not end the program: the line is told to be too much, and forgotten. */
  private void answer(TextModel text, List<Map<String, Object>> messages, String line) {
    messages.add(Map.of("role", "user", "content", line));
    int[] prompt = text.chatPrompt(messages);
    if (prompt.length >= text.context()) {
      messages.remove(messages.size() - 1);
      System.err.println("oribi: with this line the conversation has " + prompt.length + " tokens, and " + text.context()
          + " are the most: /new begins again" + (text.context() < model.maxSeqLength ? "." : ", and a higher --max-seq-length allows more."));
      return;
    }
    TextModel.Answer answer = text.answer(prompt, sampling.options(text), sampling.stops, GenerateCommand::print);
    System.out.println();
    if (answer.end() == TextModel.End.LENGTH) {
      System.err.println(prompt.length + answer.newTokens() < text.context()
          ? "oribi: this answer ends at its " + answer.newTokens() + " tokens, the most: a higher --max-new-tokens allows more."
          : "oribi: this answer ends at the " + text.context() + " tokens that a conversation may have: /new begins again.");
    }
    messages.add(Map.of("role", "assistant", "content", answer.text()));
  }

  private void switchAdapter(TextModel text, String line) {
    boolean on = line.equals("/adapter on");
    if (model.adapter == null || !on && !line.equals("/adapter off")) {
      System.out.println(model.adapter == null ? "There is no adapter: give one with --adapter." : "Say /adapter on or /adapter off.");
      return;
    }
    text.useAdapter(on ? model.adapter : null);
    System.out.println(on ? "The adapter is on." : "The adapter is off.");
  }

  private List<Map<String, Object>> begin() {
    List<Map<String, Object>> messages = new ArrayList<>();
    if (system != null) {
      messages.add(Map.of("role", "system", "content", system));
    }
    return messages;
  }
}
