package dev.oribi.fuzz;

import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.io.AtomicFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Small GGUF files that make a whole model folder: with byte pairs and with pieces. */
final class GgufSeeds {
  private GgufSeeds() {}

  static List<byte[]> all() throws IOException {
    Path folder = Files.createTempDirectory("gguf-seeds");
    try {
      List<byte[]> seeds = new ArrayList<>();
      for (boolean pieces : new boolean[] {false, true}) {
        Path file = folder.resolve(pieces + ".gguf");
        Map<String, GgufValue> keys = new LinkedHashMap<>();
        keys.put("general.architecture", GgufValue.string("llama"));
        keys.put("llama.block_count", GgufValue.u32(1));
        keys.put("llama.embedding_length", GgufValue.u32(32));
        keys.put("llama.feed_forward_length", GgufValue.u32(32));
        keys.put("llama.attention.head_count", GgufValue.u32(2));
        tokenizer(keys, pieces);
        keys.put("tokenizer.chat_template", GgufValue.string("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"));
        List<GgufWriter.Tensor> tensors = List.of(new GgufWriter.Tensor("token_embd.weight", GgmlType.Q4_0, 8, 32),
            new GgufWriter.Tensor("blk.0.attn_q.weight", GgmlType.Q8_0, 32, 32), new GgufWriter.Tensor("output_norm.weight", GgmlType.F32, 32));
        GgufWriter.write(file, keys, tensors, (t, sink) -> sink.floats(new float[(int) t.elements()], (int) t.elements()));
        seeds.add(Files.readAllBytes(file));
      }
      return seeds;
    } finally {
      AtomicFiles.deleteTree(folder);
    }
  }

  private static void tokenizer(Map<String, GgufValue> keys, boolean pieces) {
    List<String> tokens = pieces ? List.of("<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "\u2581a", "aa") : List.of("<s>", "</s>", "a", "b", "ab", "c", "\u0120", "\u0120a");
    keys.put("tokenizer.ggml.model", GgufValue.string(pieces ? "llama" : "gpt2"));
    keys.put("tokenizer.ggml.pre", GgufValue.string(pieces ? "default" : "gpt-2"));
    keys.put("tokenizer.ggml.tokens", GgufValue.strings(tokens));
    keys.put("tokenizer.ggml.token_type", GgufValue.i32s(pieces ? new int[] {2, 3, 3, 6, 1, 1, 1, 1} : new int[] {3, 3, 1, 1, 1, 1, 1, 1}));
    if (pieces) {
      keys.put("tokenizer.ggml.scores", GgufValue.f32s(new float[] {0, 0, 0, 0, -3, -3, -1, -2}));
    } else {
      keys.put("tokenizer.ggml.merges", GgufValue.strings(List.of("a b", "\u0120 a")));
    }
    keys.put("tokenizer.ggml.bos_token_id", GgufValue.u32(pieces ? 1 : 0));
    keys.put("tokenizer.ggml.eos_token_id", GgufValue.u32(pieces ? 2 : 1));
    keys.put("tokenizer.ggml.add_bos_token", GgufValue.bool(true));
  }
}
