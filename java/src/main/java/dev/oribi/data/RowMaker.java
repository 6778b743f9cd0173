package dev.oribi.data;

import com.fasterxml.jackson.databind.JsonNode;
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

/** Records to rows: recognizes a record's format by its keys, and tokenizes it. Safe for use by many threads. */
final class RowMaker {
  private static final String[] FORMATS = {"input_ids", "messages", "conversations", "prompt", "instruction", "text"};

  private final DataOptions options;
  private final Tokenizer tokenizer;
  private final ChatTemplate template;
  private final int vocabSize;

  RowMaker(DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    this.options = options;
    this.tokenizer = tokenizer;
    this.template = template;
    this.vocabSize = options.vocabSize() > 0 ? options.vocabSize()
        : tokenizer != null ? tokenizer.vocabSize() : Integer.MAX_VALUE;
  }

  /** One row, or the windows of a plain text. */
  List<Row> rows(RecordReader.Record record) {
    String source = record.source();
    if (record.json() == null) {
      return windows(source, record.text());
    }
    Fields fields = new Fields(source, record.json());
    String format = Arrays.stream(FORMATS).filter(fields::has).findFirst().orElseThrow(() -> unknownFormat(fields));
    if (!format.equals("input_ids")) {
      requireTokenizer(source);
    }
    return List.of(switch (format) {
      case "input_ids" -> tokenized(fields);
      case "messages" -> conversation(fields, ChatRecords.messages(fields, "messages"), 0);
      case "conversations" -> conversation(fields, ChatRecords.shareGpt(fields), 0);
      case "prompt" -> promptCompletion(fields);
      case "instruction" -> alpaca(fields);
      default -> text(fields);
    });
  }

  private static OribiException unknownFormat(Fields fields) {
    return new OribiException(fields.source() + ": the row has the keys " + fields.names() + ", which is no known format: it"
        + " needs instruction and output, messages, conversations, prompt and completion, text, or input_ids.");
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
    return cut(fields.source(), ids, labels);
  }

  private void checkIds(String source, String what, int... ids) {
    for (int id : ids) {
      if (id < 0 || id >= vocabSize) {
        throw new OribiException(source + ": " + what + " holds " + id + ", but the vocabulary has the ids 0 to "
            + (vocabSize - 1) + ": was the row made for another model?");
      }
    }
  }

  private Row conversation(Fields fields, List<Map<String, Object>> messages, int firstTarget) {
    if (template == null) {
      throw new OribiException(fields.source() + ": the row is a conversation, but the model has no chat template: put one"
          + " into chat_template.jinja in the model folder, or give rows with prompt and completion.");
    }
    Map<String, Object> variables = new HashMap<>();
    tokenizer.bosToken().ifPresent(token -> variables.put("bos_token", token));
    tokenizer.eosToken().ifPresent(token -> variables.put("eos_token", token));
    if (fields.has("tools")) {
      variables.put("tools", ChatRecords.tools(fields));
    }
    MarkedText text = new Conversation(fields.source(), template, messages, variables, firstTarget).mark();
    // The template writes all special tokens itself; the tokenizer's own would double the first one.
    return marked(fields.source(), text, false);
  }

  private Row promptCompletion(Fields fields) {
    if (fields.isString("prompt")) {
      return marked(fields.source(), MarkedText.of(fields.string("prompt"), fields.string("completion")), true);
    }
    List<Map<String, Object>> messages = ChatRecords.messages(fields, "prompt");
    int firstTarget = messages.size();
    messages.addAll(ChatRecords.messages(fields, "completion"));
    return conversation(fields, messages, firstTarget);
  }

  private Row alpaca(Fields fields) {
    String instruction = fields.string("instruction");
    String input = fields.has("input") ? fields.string("input") : "";
    String output = fields.string("output");
    if (template == null) {
      return marked(fields.source(), MarkedText.of(Alpaca.prompt(instruction, input), output), true);
    }
    List<Map<String, Object>> messages = new ArrayList<>();
    if (fields.has("system") && !fields.string("system").isEmpty()) {
      messages.add(new Message("system", fields.string("system")).toMap());
    }
    messages.add(new Message("user", input.isEmpty() ? instruction : instruction + "\n\n" + input).toMap());
    messages.add(new Message("assistant", output).toMap());
    return conversation(fields, messages, 0);
  }

  /**
   * Tokens of a marked text. A token is a target if any of its characters is.
   *
   * @param plain whether the text was not written by a chat template: then the tokenizer adds its own special tokens, and
   *     an end-of-sequence token, which is a target, follows
   */
  private Row marked(String source, MarkedText text, boolean plain) {
    Encoding encoding = tokenizer.encodeWithOffsets(text.text(), plain);
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
    return cut(source, ids, labels);
  }

  /** A text with the token for its beginning and the one for its end, as far as the tokenizer has them. */
  private int[] document(String source, String text) {
    int[] ids = tokenizer.encode(text, false);
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

  private List<Row> windows(String source, String text) {
    requireTokenizer(source);
    int[] ids = document(source, text);
    List<Row> windows = new ArrayList<>();
    for (int begin = 0; begin < ids.length; begin += options.maxSeqLength()) {
      int[] window = Arrays.copyOfRange(ids, begin, Math.min(begin + options.maxSeqLength(), ids.length));
      windows.add(new Row(window, window, source + "#" + windows.size(), false));
    }
    return windows;
  }

  private Row text(Fields fields) {
    int[] ids = document(fields.source(), fields.string("text"));
    return cut(fields.source(), ids, ids);
  }

  /** The row, at most as long as allowed. */
  private Row cut(String source, int[] ids, int[] labels) {
    int length = options.maxSeqLength();
    return ids.length <= length ? new Row(ids, labels, source, false)
        : new Row(Arrays.copyOf(ids, length), Arrays.copyOf(labels, length), source, true);
  }
}
