package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.ChatTemplate.Span;
import dev.oribi.text.Encoding;
import dev.oribi.text.Message;
import dev.oribi.text.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Records to rows: recognizes a record's format by its keys, and tokenizes it. Safe for use by many threads. */
final class RowMaker {
  private static final String[] FORMATS = {"input_ids", "chosen", "messages", "conversations", "prompt", "instruction", "text"};

  private final DataOptions options;
  private final Tokenizer tokenizer;
  private final ChatTemplate template;
  private final int vocabSize;
  private final EndTokens ends;
  private final Map<String, Object> variables;
  private final Optional<RoleBoundaries> roles;

  RowMaker(DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    this.options = options;
    this.tokenizer = tokenizer;
    this.template = template;
    this.vocabSize = options.vocabSize() > 0 ? options.vocabSize()
        : tokenizer != null ? tokenizer.vocabSize() : Integer.MAX_VALUE;
    this.ends = EndTokens.of(tokenizer, template);
    this.variables = tokenizer == null ? Map.of() : tokenizer.templateVariables();
    this.roles = template == null || tokenizer == null ? Optional.empty() : RoleBoundaries.of(tokenizer, template, ends);
  }

  EndTokens ends() {
    return ends;
  }

  /** One row, or the windows of a plain text. A record that cannot be read is an error, or dropped if the options say so. */
  List<Made> rows(RecordReader.Record record) {
    try {
      return record.text() != null ? windows(record.source(), record.text()) : List.of(row(record));
    } catch (OribiException e) {
      if (options.skipBadRows()) {
        return List.of(Made.unreadable(e.getMessage()));
      }
      throw e;
    }
  }

  private Made row(RecordReader.Record record) {
    Fields fields = Fields.of(record.source(), record.json(), options.columns());
    String format = format(fields);
    return Made.of(switch (format) {
      case "input_ids" -> tokenized(fields);
      case "chosen" -> answer(fields, "chosen");
      case "messages", "conversations" -> conversation(fields, whole(fields, format), 0);
      case "prompt" -> answer(fields, "completion");
      case "instruction" -> alpaca(fields);
      default -> text(fields);
    }, options.maxSeqLength(), ends, format.equals("chosen"));
  }

  private String format(Fields fields) {
    String format = Arrays.stream(FORMATS).filter(fields::has).findFirst().orElseThrow(() -> unknownFormat(fields));
    if (!format.equals("input_ids")) {
      requireTokenizer(fields.source());
    }
    return format;
  }

  /** The two answers of a preference pair, each with its prompt; the row must have both. */
  PreferencePair pair(RecordReader.Record record) {
    Fields fields = Fields.of(record.source(), record.json(), options.columns());
    requireTokenizer(record.source());
    Made chosen = Made.of(answer(fields, "chosen"), options.maxSeqLength(), ends, true);
    Made rejected = Made.of(answer(fields, "rejected"), options.maxSeqLength(), ends, true);
    return new PreferencePair(chosen.row(), rejected.row());
  }

  private static OribiException unknownFormat(Fields fields) {
    return new OribiException(fields.source() + ": the row has the keys " + fields.names() + ", which is no known format: it"
        + " needs instruction and output, messages, conversations, prompt and completion, chosen and rejected, text, or input_ids;"
        + " or say what is what, as --columns prompt=question,completion=answer.");
  }

  private void requireTokenizer(String source) {
    if (tokenizer == null) {
      throw new OribiException(source + ": the row is text, but the model folder has no tokenizer.json: copy the model's"
          + " tokenizer there, or give rows with input_ids.");
    }
  }

  private Row tokenized(Fields fields) {
    int[] ids = fields.integers("input_ids");
    int[] labels = fields.has("labels") ? fields.integers("labels") : ids;
    if (labels.length != ids.length) {
      throw new OribiException(fields.source() + ": there are " + ids.length + " input_ids but " + labels.length
          + " labels: give each token one label, -100 where it is not learned.");
    }
    if (fields.has("attention_mask") && Arrays.stream(fields.integers("attention_mask")).anyMatch(m -> m != 1)) {
      throw new OribiException(fields.source() + ": the row is padded (attention_mask has zeros): remove the padding, Oribi needs none.");
    }
    checkIds(fields.source(), "input_ids", ids);
    for (int label : labels) {
      if (label != MicroBatch.IGNORE) {
        checkIds(fields.source(), "labels", label);
      }
    }
    return new Row(ids, labels, fields.source(), false);
  }

  private void checkIds(String source, String what, int... ids) {
    for (int id : ids) {
      if (id < 0 || id >= vocabSize) {
        throw new OribiException(source + ": " + what + " holds " + id + ", but the vocabulary has the ids 0 to "
            + (vocabSize - 1) + ": was the row made for another model?");
      }
    }
  }

  private static List<Map<String, Object>> whole(Fields fields, String key) {
    List<Map<String, Object>> messages = new ArrayList<>(ChatRecords.system(fields));
    messages.addAll(ChatRecords.messages(fields, key));
    return messages;
  }

  private Row conversation(Fields fields, List<Map<String, Object>> messages, int firstTarget) {
    if (template == null) {
      throw new OribiException(fields.source() + ": the row is a conversation, but the model has no chat template: give one with"
          + " --chat-template, or put one into chat_template.jinja in the model folder, or give rows with prompt and completion.");
    }
    Map<String, Object> all = new HashMap<>(variables);
    if (fields.has("tools")) {
      all.put("tools", ChatRecords.tools(fields));
    }
    boolean[] learned = ChatRecords.learned(messages, firstTarget, options.trainOn());
    MarkedText text = new Conversation(fields.source(), template, messages, all, learned, options.maskBy(), ends, roles).mark();
    // The template writes all special tokens itself; the tokenizer's own would double the first one.
    return marked(fields.source(), text, false);
  }

  /** A prompt with the answer of a key: two strings, or messages. */
  private Row answer(Fields fields, String key) {
    String before = fields.has("prompt") ? "prompt" : fields.has("conversations") ? "conversations" : fields.has("messages") ? "messages" : null;
    if (before == null) {
      return conversation(fields, whole(fields, key), common(fields, key));
    }
    if (before.equals("prompt") && fields.isString("prompt")) {
      return marked(fields.source(), MarkedText.of(fields.string("prompt"), fields.string(key)), true);
    }
    List<Map<String, Object>> messages = whole(fields, before);
    int firstTarget = messages.size();
    if (fields.isString(key)) {
      messages.add(new Message("assistant", fields.string(key)).toMap());
    } else {
      messages.addAll(ChatRecords.messages(fields, key));
    }
    return conversation(fields, messages, firstTarget);
  }

  /** Where two whole conversations begin to differ: what is before is the prompt. */
  private static int common(Fields fields, String key) {
    List<Map<String, Object>> one = whole(fields, key);
    List<Map<String, Object>> other = whole(fields, key.equals("chosen") ? "rejected" : "chosen");
    int same = 0;
    while (same < Math.min(one.size(), other.size()) && one.get(same).equals(other.get(same))) {
      same++;
    }
    return same;
  }

  private Row alpaca(Fields fields) {
    String instruction = fields.string("instruction");
    String input = fields.has("input") ? fields.string("input") : "";
    String output = fields.string("output");
    List<Map<String, Object>> messages = new ArrayList<>(ChatRecords.system(fields));
    int before = messages.size();
    if (fields.has("history")) {
      ChatRecords.addHistory(fields, messages);
    }
    if (template == null) {
      if (messages.size() > 0) {
        throw new OribiException(fields.source() + ": the row has " + (before > 0 ? "a system message" : "a history")
            + ", for which Alpaca's prompt has no place: give a template with --chat-template.");
      }
      return marked(fields.source(), MarkedText.of(Alpaca.prompt(instruction, input), output), true);
    }
    messages.add(new Message("user", input.isEmpty() ? instruction : instruction + "\n\n" + input).toMap());
    messages.add(new Message("assistant", output).toMap());
    return conversation(fields, messages, 0);
  }

  /**
   * Tokens of a marked text. A token is a target if any of its characters is.
   *
   * @param plain whether the text was not written by a chat template: then the tokenizer adds its own special tokens, but for a
   *     first one that the text has already, and an end-of-sequence token, which is a target, follows
   */
  private Row marked(String source, MarkedText text, boolean plain) {
    boolean begun = tokenizer.bosToken().isPresent() && text.text().startsWith(tokenizer.bosToken().get());
    Encoding encoding = encode(source, text.text(), plain && !begun);
    int[] ids = encoding.ids();
    int[] labels = new int[ids.length];
    Arrays.fill(labels, MicroBatch.IGNORE);
    int next = 0;
    for (int i = 0; i < ids.length; i++) {
      int begin = encoding.begin()[i];
      while (begin >= 0 && next < text.targets().size() && text.targets().get(next).end() <= begin) {
        next++;
      }
      Span target = next < text.targets().size() ? text.targets().get(next) : null;
      if (begin >= 0 && target != null && encoding.end()[i] > target.begin() && encoding.end()[i] > begin) {
        labels[i] = ids[i];
      }
    }
    if (plain && tokenizer.eosTokenId().isPresent()) {
      int eos = tokenizer.eosTokenId().getAsInt();
      if (ids.length == 0 || ids[ids.length - 1] != eos) {
        ids = Arrays.copyOf(ids, ids.length + 1);
        labels = Arrays.copyOf(labels, ids.length);
        ids[ids.length - 1] = eos;
      }
      labels[ids.length - 1] = eos;
    }
    checkIds(source, "the tokenized row", ids);
    return new Row(ids, labels, source, false);
  }

  private Encoding encode(String source, String text, boolean special) {
    try {
      return tokenizer.encodeWithOffsets(text, special);
    } catch (OribiException e) {
      throw new OribiException(source + ": " + e.getMessage(), e);
    }
  }

  /** A text with the token for its beginning and the one for its end, as far as the tokenizer has them. */
  private int[] document(String source, String text) {
    int[] ids;
    try {
      ids = tokenizer.encode(text, false);
    } catch (OribiException e) {
      throw new OribiException(source + ": " + e.getMessage(), e);
    }
    int bos = tokenizer.bosTokenId().orElse(-1);
    int eos = tokenizer.eosTokenId().orElse(-1);
    int before = bos >= 0 && (ids.length == 0 || ids[0] != bos) ? 1 : 0;
    int after = eos >= 0 && (ids.length == 0 || ids[ids.length - 1] != eos) ? 1 : 0;
    int[] all = new int[before + ids.length + after];
    System.arraycopy(ids, 0, all, before, ids.length);
    if (before == 1) {
      all[0] = bos;
    }
    if (after == 1) {
      all[all.length - 1] = eos;
    }
    checkIds(source, "the tokenized text", all);
    return all;
  }

  private List<Made> windows(String source, String text) {
    requireTokenizer(source);
    int[] ids = text.isBlank() ? new int[0] : document(source, text);
    List<Made> windows = new ArrayList<>();
    for (int begin = 0; begin < ids.length; begin += options.maxSeqLength()) {
      int[] window = Arrays.copyOfRange(ids, begin, Math.min(begin + options.maxSeqLength(), ids.length));
      windows.add(Made.of(new Row(window, window, source + "#" + windows.size(), false), options.maxSeqLength(), ends, false));
    }
    return windows;
  }

  private Row text(Fields fields) {
    int[] ids = document(fields.source(), fields.string("text"));
    return new Row(ids, ids, fields.source(), false);
  }
}
