package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.model.UntrainedRows;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Message;
import dev.oribi.text.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;

/** Faults of published model folders that spoil a training without an error, found before it. */
final class ModelFindings {
  /** A fault that spoils a run, or one that Oribi does not mind and other programs do. */
  record Finding(boolean warning, String text) {}

  private static final String ANSWER = "Good morning";
  private static final Map<String, Object> QUESTION_TURN = new Message("user", "Hello").toMap();
  private static final Map<String, Object> ANSWER_TURN = new Message("assistant", ANSWER).toMap();

  /** Tokens that are named in one line. */
  private static final int NAMED = 6;

  private final Tokenizer tokenizer;
  private final ChatTemplate template;
  private final Collection<Integer> ends;
  private final List<Finding> found = new ArrayList<>();

  private ModelFindings(Tokenizer tokenizer, ChatTemplate template, Collection<Integer> ends) {
    this.tokenizer = tokenizer;
    this.template = template;
    this.ends = new TreeSet<>(ends);
    tokenizer.eosTokenId().ifPresent(this.ends::add);
  }

  /**
   * Everything that is found.
   *
   * @param template null if there is none
   * @param ends ids at which generation stops, beside the tokenizer's end of a sequence
   */
  static List<Finding> of(Checkpoint weights, Tokenizer tokenizer, ChatTemplate template, Collection<Integer> ends) {
    ModelFindings all = new ModelFindings(tokenizer, template, ends);
    all.padding();
    String written = template == null ? "" : all.conversation();
    all.untrained(UntrainedRows.find(weights), written);
    return all.found;
  }

  private void warn(String format, Object... values) {
    found.add(new Finding(true, String.format(format, values)));
  }

  private void note(String format, Object... values) {
    found.add(new Finding(false, String.format(format, values)));
  }

  private void padding() {
    int pad = tokenizer.padTokenId().orElse(-1);
    if (pad >= 0 && ends.contains(pad)) {
      note("%s both pads and ends: a trainer that masks padding by its token never teaches the model to stop. Oribi pads"
          + " nothing and masks by position.", tokenizer.token(pad));
    }
  }

  /** Looks at a question with its answer; returns what the template makes of it. */
  private String conversation() {
    Map<String, Object> variables = new HashMap<>();
    tokenizer.bosToken().ifPresent(token -> variables.put("bos_token", token));
    tokenizer.eosToken().ifPresent(token -> variables.put("eos_token", token));
    try {
      String asked = template.render(List.of(QUESTION_TURN), true, variables).text();
      String unasked = template.render(List.of(QUESTION_TURN), false, variables).text();
      String whole = template.render(List.of(QUESTION_TURN, ANSWER_TURN), false, variables).text();
      begin(asked);
      generationPrompt(asked, unasked, whole);
      end(whole);
      return asked + whole;
    } catch (OribiException e) {
      warn("the chat template refuses a plain question with its answer: %s", e.getMessage());
      return "";
    }
  }

  private void begin(String asked) {
    if (tokenizer.bosTokenId().isEmpty()) {
      return;
    }
    int bos = tokenizer.bosTokenId().getAsInt();
    int[] ids = tokenizer.encode(asked, false);
    int[] plain = tokenizer.encode(ANSWER, true);
    boolean added = plain.length > 0 && plain[0] == bos;
    long count = Arrays.stream(ids).takeWhile(id -> id == bos).count();
    if (count > 1) {
      warn("the chat template begins a conversation with %s %d times, and models were trained with one: remove the others"
          + " from the template.", tokenizer.token(bos), count);
    } else if (count == 1 && added) {
      note("chat template and tokenizer both begin a text with %s: tokenize conversations without special tokens, as Oribi"
          + " does, or it stands there twice.", tokenizer.token(bos));
    } else if (count == 0 && added) {
      warn("the tokenizer begins every text with %s, the chat template does not: conversations would be learned without it."
          + " Begin the template with {{ bos_token }}.", tokenizer.token(bos));
    }
  }

  private void generationPrompt(String asked, String unasked, String whole) {
    if (!asked.equals(unasked)) {
      return;
    }
    boolean always = whole.startsWith(asked) && whole.substring(asked.length()).strip().startsWith(ANSWER);
    if (always) {
      note("the chat template begins an answer after every question, asked for (add_generation_prompt) or not.");
    } else {
      warn("the chat template has no generation prompt: it writes the same with add_generation_prompt and without, so the"
          + " model has to open its own turn. Add one to the template.");
    }
  }

  private void end(String whole) {
    int at = whole.lastIndexOf(ANSWER);
    if (at < 0) {
      warn("the chat template leaves out what the assistant says.");
      return;
    }
    int end = Arrays.stream(tokenizer.encode(whole.substring(at + ANSWER.length()), false))
        .filter(id -> !tokenizer.decode(new int[] {id}, false).isBlank()).findFirst().orElse(-1);
    if (end < 0) {
      warn("the chat template ends an answer with nothing: the model would never learn to stop.");
    } else if (!ends.contains(end)) {
      warn("the chat template ends an answer with %s, generation stops at %s: add the former to eos_token_id in"
          + " generation_config.json.", tokenizer.token(end), names(ends));
    }
  }

  private void untrained(List<Integer> rows, String written) {
    int pad = tokenizer.padTokenId().orElse(-1);
    List<Integer> tokens = rows.stream().filter(id -> id != pad && tokenizer.hasToken(id)).toList();
    List<Integer> used = tokens.stream()
        .filter(id -> written.contains(tokenizer.token(id)) || template != null && template.source().contains(tokenizer.token(id)))
        .toList();
    if (!used.isEmpty()) {
      warn("the chat template writes tokens that the model was never trained on, their embeddings are zero: %s. Take the"
          + " instruct model, or let them learn too: --modules-to-save embed_tokens,lm_head.", names(used));
    } else if (!tokens.isEmpty()) {
      note("%,d tokens were never trained, their embeddings are zero: %s.", tokens.size(), names(tokens));
    }
  }

  private String names(Collection<Integer> ids) {
    String first = ids.stream().filter(tokenizer::hasToken).limit(NAMED).map(tokenizer::token).collect(Collectors.joining(", "));
    return ids.isEmpty() ? "no token" : ids.size() > NAMED ? first + ", …" : first;
  }
}
