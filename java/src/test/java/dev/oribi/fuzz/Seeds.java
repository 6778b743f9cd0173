package dev.oribi.fuzz;

import dev.oribi.io.AtomicFiles;
import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.SentencePieceSeeds;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Whole inputs to begin with, small so that a change hits something that matters. */
public final class Seeds {
  private Seeds() {}

  /** Writes the seeds of a target into a folder: {@code Seeds TARGET FOLDER}. */
  public static void main(String[] args) throws IOException {
    Path folder = Files.createDirectories(Path.of(args[1]));
    List<byte[]> seeds = of(args[0]);
    for (int i = 0; i < seeds.size(); i++) {
      Files.write(folder.resolve("seed-" + i), seeds.get(i));
    }
  }

  static List<byte[]> of(String target) throws IOException {
    return switch (target) {
      case "safetensors" -> List.of(
          safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]}}", 22),
          safetensors("{\"__metadata__\":{\"format\":\"pt\"},\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}  ", 0));
      case "gguf" -> GgufSeeds.all();
      case "tokenizer" -> tokenizers();
      case "sentencepiece" -> SentencePieceSeeds.all();
      case "template" -> templates();
      case "json" -> texts("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \"weight\": 1}], \"tools\": []}\n",
          "[{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\", \"system\": \"s\", \"history\": [[\"q\", \"a\"]]},\n {\"text\": \"\\u00e9\\ud83d\\ude42\"}]",
          "{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"function_call\", \"value\": \"{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {}}\"}], \"tools\": \"[]\"}",
          "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3], \"attention_mask\": [1, 1, 1]}\n{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n",
          "{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}]}");
      case "csv" -> texts("prompt,completion\n\"a, \"\"b\"\"\",\"c\nd\"\r\ne,f\n", "text;x\n1;2\n", "messages\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}]\"\n");
      case "parquet" -> List.of(resource("chats-none.parquet"), resource("chats-zstd.parquet"), resource("chats-snappy.parquet"),
          resource("chats-gzip.parquet"), resource("ids.parquet"), resource("questions.parquet"));
      default -> throw new IllegalArgumentException(target);
    };
  }

  private static List<byte[]> texts(String... texts) {
    List<byte[]> seeds = new ArrayList<>();
    for (String text : texts) {
      seeds.add(text.getBytes(StandardCharsets.UTF_8));
    }
    return seeds;
  }

  private static byte[] safetensors(String header, int data) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    return ByteBuffer.allocate(8 + json.length + data).order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).put(json).array();
  }

  private static List<byte[]> tokenizers() throws IOException {
    Path folder = Files.createTempDirectory("seeds");
    try {
      byte[] bytes = Files.readAllBytes(ByteTokenizer.write(folder).resolve("tokenizer.json"));
      String llama = new String(bytes, StandardCharsets.UTF_8).replace("\"merges\":[]", "\"merges\":[\"a b\",\"ab c\"],\"ignore_merges\":true")
          .replace("\"vocab\":{", "\"vocab\":{\"ab\":260,\"abc\":261,");
      return List.of(bytes, llama.getBytes(StandardCharsets.UTF_8));
    } finally {
      AtomicFiles.deleteTree(folder);
    }
  }

  private static List<byte[]> templates() {
    List<byte[]> seeds = new ArrayList<>();
    for (String name : ChatTemplate.NAMES) {
      seeds.add(ChatTemplate.named(name).source().getBytes(StandardCharsets.UTF_8));
    }
    seeds.addAll(texts("{% macro m(x, y=1) %}{{ x|upper }}{% endmacro %}{{ m('a') }}{% for k, v in {'a': 1}|items recursive %}{{ loop.index }}{% else %}e{% endfor %}",
        "{% set ns = namespace(a=[1, 2.5, none, true]) %}{{ ns.a[1:] | join(', ') }}{{ 'x' if 1 in ns.a else 'y' ~ 2 ** 3 // 2 % 5 }}{{ strftime_now('%d %b %Y') }}",
        "{%- if tools is not none and tools | length > 0 -%}{{ tools | tojson(indent=2) }}{{ messages | map(attribute='role') | list | unique }}{%- endif -%}{# c #}{% raw %}{{ }}{% endraw %}"));
    return seeds;
  }

  private static byte[] resource(String name) throws IOException {
    try (InputStream in = Seeds.class.getResourceAsStream("/dev/oribi/data/" + name)) {
      return in.readAllBytes();
    }
  }
}
