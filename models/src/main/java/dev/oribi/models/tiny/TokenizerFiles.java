package dev.oribi.models.tiny;

import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Trains the tokenizer of the tiny model and writes its files as Hugging Face's libraries read them: {@code tokenizer.json},
 * {@code tokenizer_config.json}, {@code special_tokens_map.json}, {@code chat_template.jinja}, {@code generation_config.json}.
 *
 * <p>{@code <|endoftext|>} begins and ends a document; in a chat each turn ends with {@code <|end|>}. Generation stops at
 * either.
 */
public final class TokenizerFiles {
  static final String END_OF_TEXT = "<|endoftext|>";
  static final String PAD = "<|pad|>";

  /** In the order of their ids, from 0. */
  static final List<String> SPECIAL_TOKENS =
      List.of(END_OF_TEXT, PAD, StoryGenerator.USER, StoryGenerator.ASSISTANT, StoryGenerator.END);

  /** Tokens of the tiny model: as many as its {@code config.json} says. */
  static final int VOCAB_SIZE = 2048;

  private static final int MODEL_MAX_LENGTH = 512;

  /**
   * One line, so that no blank reaches the text. What the assistant says, up to and with {@code <|end|>}, stands between
   * generation marks: that is what fine-tuning trains.
   */
  static final String CHAT_TEMPLATE =
      "{{- bos_token -}}"
          + "{%- for message in messages -%}"
          + "{%- if message['role'] == 'user' -%}"
          + "{{- '<|user|>' + message['content'] | trim + '<|end|>' -}}"
          + "{%- elif message['role'] == 'assistant' -%}"
          + "{{- '<|assistant|>' -}}"
          + "{%- generation -%}{{- message['content'] | trim + '<|end|>' -}}{%- endgeneration -%}"
          + "{%- else -%}"
          + "{{- raise_exception('This model knows the roles user and assistant only') -}}"
          + "{%- endif -%}"
          + "{%- endfor -%}"
          + "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}";

  private static final ObjectMapper JSON = new ObjectMapper();

  private TokenizerFiles() {}

  /** Writes all files into the folder. */
  static void write(Path folder, BpeTrainer.Vocabulary vocabulary) throws IOException {
    Files.createDirectories(folder);
    writeJson(folder.resolve("tokenizer.json"), tokenizer(vocabulary));
    writeJson(folder.resolve("tokenizer_config.json"), tokenizerConfig());
    writeJson(folder.resolve("special_tokens_map.json"), specialTokensMap());
    writeJson(folder.resolve("generation_config.json"), generationConfig());
    Files.writeString(folder.resolve("chat_template.jinja"), CHAT_TEMPLATE);
  }

  // ------------------------------------------------------------------------------------------------ tokenizer.json

  private static ObjectNode tokenizer(BpeTrainer.Vocabulary vocabulary) {
    ObjectNode root = JSON.createObjectNode();
    root.put("version", "1.0").putNull("truncation").putNull("padding");
    ArrayNode added = root.putArray("added_tokens");
    for (int id = 0; id < SPECIAL_TOKENS.size(); id++) {
      added.add(specialToken(SPECIAL_TOKENS.get(id)).put("id", id));
    }
    root.putNull("normalizer");
    root.set("pre_tokenizer", byteLevel());
    root.set("post_processor", beginsWithEndOfText());
    root.set("decoder", byteLevel());
    root.set("model", bpe(vocabulary));
    return root;
  }

  private static ObjectNode specialToken(String content) {
    return JSON.createObjectNode()
        .put("content", content)
        .put("single_word", false)
        .put("lstrip", false)
        .put("rstrip", false)
        .put("normalized", false)
        .put("special", true);
  }

  private static ObjectNode byteLevel() {
    return JSON.createObjectNode()
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", true);
  }

  private static ObjectNode beginsWithEndOfText() {
    ObjectNode processor = JSON.createObjectNode().put("type", "TemplateProcessing");
    ArrayNode single = processor.putArray("single");
    ArrayNode pair = processor.putArray("pair");
    List.of(single, pair).forEach(template -> template.add(bosPiece(0)).add(sequencePiece("A", 0)));
    pair.add(bosPiece(1)).add(sequencePiece("B", 1));
    ObjectNode bos = processor.putObject("special_tokens").putObject(END_OF_TEXT).put("id", END_OF_TEXT);
    bos.putArray("ids").add(SPECIAL_TOKENS.indexOf(END_OF_TEXT));
    bos.putArray("tokens").add(END_OF_TEXT);
    return processor;
  }

  private static JsonNode bosPiece(int type) {
    ObjectNode piece = JSON.createObjectNode();
    piece.putObject("SpecialToken").put("id", END_OF_TEXT).put("type_id", type);
    return piece;
  }

  private static JsonNode sequencePiece(String name, int type) {
    ObjectNode piece = JSON.createObjectNode();
    piece.putObject("Sequence").put("id", name).put("type_id", type);
    return piece;
  }

  private static ObjectNode bpe(BpeTrainer.Vocabulary vocabulary) {
    ObjectNode model = JSON.createObjectNode().put("type", "BPE").putNull("dropout").putNull("unk_token");
    model.putNull("continuing_subword_prefix").putNull("end_of_word_suffix");
    model.put("fuse_unk", false).put("byte_fallback", false).put("ignore_merges", false);
    ObjectNode ids = model.putObject("vocab");
    for (int id = 0; id < vocabulary.tokens().size(); id++) {
      ids.put(vocabulary.tokens().get(id), id);
    }
    ArrayNode merges = model.putArray("merges");
    vocabulary.merges().forEach(merge -> merges.add(merge.left() + " " + merge.right()));
    return model;
  }

  // ------------------------------------------------------------------------------------------------ the other files

  private static ObjectNode tokenizerConfig() {
    ObjectNode config = specialTokensMap();
    config.put("add_bos_token", true).put("add_eos_token", false);
    ObjectNode added = config.putObject("added_tokens_decoder");
    for (int id = 0; id < SPECIAL_TOKENS.size(); id++) {
      added.set(String.valueOf(id), specialToken(SPECIAL_TOKENS.get(id)));
    }
    config.put("chat_template", CHAT_TEMPLATE);
    config.put("clean_up_tokenization_spaces", false);
    config.put("model_max_length", MODEL_MAX_LENGTH);
    config.put("tokenizer_class", "PreTrainedTokenizerFast");
    return config;
  }

  private static ObjectNode specialTokensMap() {
    return JSON.createObjectNode().put("bos_token", END_OF_TEXT).put("eos_token", END_OF_TEXT).put("pad_token", PAD);
  }

  private static ObjectNode generationConfig() {
    ObjectNode config = JSON.createObjectNode().put("bos_token_id", SPECIAL_TOKENS.indexOf(END_OF_TEXT));
    config.putArray("eos_token_id")
        .add(SPECIAL_TOKENS.indexOf(END_OF_TEXT))
        .add(SPECIAL_TOKENS.indexOf(StoryGenerator.END));
    config.put("pad_token_id", SPECIAL_TOKENS.indexOf(PAD));
    return config.put("do_sample", true).put("temperature", 0.7).put("top_p", 0.95);
  }

  private static void writeJson(Path file, JsonNode node) throws IOException {
    DefaultIndenter indent = new DefaultIndenter("  ", "\n"); // the same bytes on every system
    DefaultPrettyPrinter printer = new DefaultPrettyPrinter();
    printer.indentObjectsWith(indent);
    printer.indentArraysWith(indent);
    Files.writeString(file, JSON.writer(printer).writeValueAsString(node) + "\n");
  }

  // ------------------------------------------------------------------------------------------------ command line

  /**
   * Trains on the documents of a JSONL file.
   *
   * @param args text file with a document {@code {"text": ...}} a line, folder to write to
   */
  public static void main(String[] args) throws IOException {
    if (args.length != 2) {
      System.err.println("Usage: TokenizerFiles <text.jsonl> <model-folder>");
      System.exit(2);
    }
    BpeTrainer trainer = new BpeTrainer(SPECIAL_TOKENS);
    try (BufferedReader in = Files.newBufferedReader(Path.of(args[0]))) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        trainer.add(JSON.readTree(line).required("text").textValue());
      }
    }
    write(Path.of(args[1]), trainer.train(VOCAB_SIZE));
  }
}
