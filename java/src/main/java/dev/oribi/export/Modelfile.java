package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * An Ollama Modelfile for a GGUF file: sampling, stop texts, and the chat template in Ollama's own language.
 *
 * <p>Jinja cannot be translated in general. What stands before and after each message is found by rendering short conversations
 * with marks in them; if longer conversations are not made of just those pieces there is no template in the file, and Ollama
 * goes by the Jinja text in the GGUF.
 */
final class Modelfile {
  private static final String USER = "QZUSERQZ";
  private static final String AGAIN = "QZAGAINQZ";
  private static final String ANSWER = "QZANSWERQZ";
  private static final String SYSTEM = "QZSYSTEMQZ";

  /** Keys and values of 8 billion parameters' 128k tokens would take 16 GiB beside the model. */
  private static final int CONTEXT = 8192;

  private Modelfile() {}

  /**
   * @param from the name of the GGUF file beside it
   * @param context tokens up to which the file's model is the trained one
   * @param template how a conversation is written
   */
  static String of(Path folder, String from, int context, Optional<ChatTemplate> template) {
    ModelConfig config = ModelConfig.read(folder);
    GenerationConfig generation = GenerationConfig.read(folder, config);
    StringBuilder text = new StringBuilder("FROM ./" + from + "\n");
    text.append("# Ollama takes memory for all of num_ctx at once; the model goes up to ").append(context).append(" tokens.\n");
    text.append("PARAMETER num_ctx ").append(Math.min(context, CONTEXT)).append('\n');
    text.append("PARAMETER temperature ").append(generation.doSample() ? generation.temperature() : 0).append('\n');
    text.append("PARAMETER top_p ").append(generation.topP()).append('\n');
    text.append("PARAMETER top_k ").append(generation.topK()).append('\n');
    text.append("PARAMETER repeat_penalty ").append(generation.repetitionPenalty()).append('\n');
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      for (int id : generation.eosTokenIds()) {
        text.append("PARAMETER stop ").append(quoted(tokenizer.token(id))).append('\n');
      }
      template.flatMap(t -> template(t, tokenizer)).filter(t -> !t.contains("\"\"\"")) // which would end it
          .ifPresent(t -> text.append("TEMPLATE \"\"\"").append(t).append("\"\"\"\n"));
    }
    return text.toString();
  }

  private static String quoted(String text) {
    return '"' + text + '"'; // Ollama takes everything up to a line's last quote as it is
  }

  /** The template in Go's words, if conversations are made of fixed pieces around the messages. */
  private static Optional<String> template(ChatTemplate jinja, Tokenizer tokenizer) {
    Map<String, Object> variables = new HashMap<>();
    tokenizer.bosToken().ifPresent(t -> variables.put("bos_token", t));
    tokenizer.eosToken().ifPresent(t -> variables.put("eos_token", t));
    Render render = new Render(jinja, variables);
    try {
      boolean begins = tokenizer.encode("a", true).length > tokenizer.encode("a", false).length;
      return pieces(render, begins ? tokenizer.bosToken().orElse("") : "");
    } catch (OribiException e) {
      return Optional.empty(); // the template refuses an ordinary conversation
    }
  }

  private record Render(ChatTemplate jinja, Map<String, Object> variables) {
    String of(boolean prompt, String... rolesAndTexts) {
      List<Map<String, Object>> messages = new ArrayList<>();
      for (int i = 0; i < rolesAndTexts.length; i += 2) {
        messages.add(Map.of("role", rolesAndTexts[i], "content", rolesAndTexts[i + 1]));
      }
      return jinja.render(messages, prompt, variables).text();
    }
  }

  private static Optional<String> pieces(Render render, String bos) {
    String one = render.of(false, "user", USER);
    String asked = render.of(true, "user", USER);
    String three = render.of(false, "user", USER, "assistant", ANSWER, "user", AGAIN);
    int user = one.indexOf(USER);
    int answer = three.indexOf(ANSWER);
    int again = three.indexOf(AGAIN);
    if (user < 0 || answer < 0 || again < answer || !asked.startsWith(one)) {
      return Optional.empty();
    }
    String prefix = one.substring(0, user);
    String afterUser = one.substring(user + USER.length());
    String prompt = asked.substring(one.length());
    String plain = prefix.startsWith(bos) ? prefix.substring(bos.length()) : prefix; // llama.cpp adds the first token itself
    String begin = prefix + USER + afterUser;
    String beforeAnswer = three.startsWith(begin) && answer >= begin.length() ? three.substring(begin.length(), answer) : null;
    String between = three.substring(answer + ANSWER.length(), again);
    String afterAnswer = common(between, plain);
    if (beforeAnswer == null || afterAnswer == null || !three.endsWith(AGAIN + afterUser)) {
      return Optional.empty();
    }
    String beforeUser = between.substring(afterAnswer.length());
    String opening = plain.endsWith(beforeUser) ? plain.substring(0, plain.length() - beforeUser.length()) : null;
    if (opening == null) {
      return Optional.empty();
    }
    return Optional.of(system(render, bos, beforeUser, afterUser, opening) + "{{ range .Messages }}{{ if eq .Role \"user\" }}"
        + go(beforeUser) + "{{ .Content }}" + go(afterUser) + "{{ else if eq .Role \"assistant\" }}" + go(beforeAnswer) + "{{ .Content }}"
        + go(afterAnswer) + "{{ end }}{{ end }}" + go(prompt));
  }

  /** What closes an answer: the text between an answer and a question less the longest end that also opens a first question. */
  private static String common(String between, String opening) {
    for (int length = Math.min(between.length(), opening.length()); length >= 0; length--) {
      if (opening.endsWith(between.substring(between.length() - length))) {
        return between.substring(0, between.length() - length);
      }
    }
    return null;
  }

  /** What opens a conversation: with a system message if the template takes one, and what stands there without. */
  private static String system(Render render, String bos, String beforeUser, String afterUser, String opening) {
    String with;
    try {
      with = render.of(false, "system", SYSTEM, "user", USER);
    } catch (OribiException e) {
      return go(opening);
    }
    String tail = beforeUser + USER + afterUser;
    int at = with.indexOf(SYSTEM);
    if (at < 0 || !with.endsWith(tail)) {
      return go(opening);
    }
    String before = with.substring(0, at);
    String after = with.substring(at + SYSTEM.length(), with.length() - tail.length());
    return "{{ if .System }}" + go(before.startsWith(bos) ? before.substring(bos.length()) : before) + "{{ .System }}" + go(after)
        + (opening.isEmpty() ? "" : "{{ else }}" + go(opening)) + "{{ end }}";
  }

  /** Text that Go's templates leave alone. */
  private static String go(String text) {
    return text.contains("{{")
        ? "{{ \"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\r", "\\r") + "\" }}" : text;
  }
}
