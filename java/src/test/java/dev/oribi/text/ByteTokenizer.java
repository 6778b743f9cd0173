package dev.oribi.text;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** A tokenizer for tests: a token a byte, and {@code <s>}, {@code </s>}, {@code <|im_start|>}, {@code <|im_end|>}. */
public final class ByteTokenizer {
  public static final int BOS = 256;
  public static final int EOS = 257;
  public static final String CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
      + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

  private ByteTokenizer() {}

  /** Writes the tokenizer's files into a folder. */
  public static Path write(Path folder) throws IOException {
    ObjectMapper mapper = new ObjectMapper();
    ObjectNode json = mapper.createObjectNode();
    json.put("version", "1.0");
    ObjectNode model = json.putObject("model").put("type", "BPE");
    ObjectNode vocab = model.putObject("vocab");
    for (int b = 0, other = 256; b < 256; b++) {
      // GPT-2's alphabet: printable bytes stand for themselves, the others for characters from 256 on.
      boolean printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      vocab.put(Character.toString(printable ? b : other++), b);
    }
    model.putArray("merges");
    String[] special = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
    for (int i = 0; i < special.length; i++) {
      json.withArray("added_tokens").addObject().put("id", 256 + i).put("content", special[i]).put("special", true)
          .put("single_word", false).put("lstrip", false).put("rstrip", false).put("normalized", false);
    }
    json.putObject("pre_tokenizer").put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", false).put("use_regex", false);
    json.putObject("decoder").put("type", "ByteLevel").put("add_prefix_space", false).put("trim_offsets", false).put("use_regex", false);
    json.set("post_processor", mapper.readTree("{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\","
        + " \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
        + " {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [256],"
        + " \"tokens\": [\"<s>\"]}}}"));
    Files.createDirectories(folder);
    mapper.writeValue(folder.resolve("tokenizer.json").toFile(), json);
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}}");
    return folder;
  }
}
