package dev.oribi.testing;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.text.TestData;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A real model of 260 thousand weights in llama2.c's format, turned into a Hugging Face folder. Its rotary pairs lie side by
 * side, (2i, 2i+1), where Hugging Face has (i, i + D/2): the rows of the query and key projections change places.
 */
public final class Stories260K {
  public static final int BOS = 1;
  private static final int HEADER = 7 * Integer.BYTES;

  private final int hidden;
  private final int intermediate;
  private final int layers;
  private final int heads;
  private final int kvHeads;
  private final int vocabulary;
  private final int context;
  private final Map<String, float[]> tensors = new LinkedHashMap<>();
  private final Map<String, long[]> shapes = new LinkedHashMap<>();

  /** Reads the file of the test data; without the data the test is skipped. */
  public static Stories260K read() throws IOException {
    return new Stories260K(ByteBuffer.wrap(Files.readAllBytes(file("stories260K.bin"))).order(ByteOrder.LITTLE_ENDIAN));
  }

  public static Path file(String name) {
    return TestData.file("stories260K").resolve(name);
  }

  public static JsonNode json(String name) {
    return Json.read(file(name));
  }

  private Stories260K(ByteBuffer in) {
    hidden = in.getInt();
    intermediate = in.getInt();
    layers = in.getInt();
    heads = in.getInt();
    kvHeads = in.getInt();
    vocabulary = in.getInt();
    context = in.getInt();
    FloatBuffer data = in.position(HEADER).slice().order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    int kv = hidden / heads * kvHeads;
    take(data, "model.embed_tokens.weight", vocabulary, hidden);
    takeEach(data, "input_layernorm", hidden);
    takeEach(data, "self_attn.q_proj", hidden, hidden);
    takeEach(data, "self_attn.k_proj", kv, hidden);
    takeEach(data, "self_attn.v_proj", kv, hidden);
    takeEach(data, "self_attn.o_proj", hidden, hidden);
    takeEach(data, "post_attention_layernorm", hidden);
    takeEach(data, "mlp.gate_proj", intermediate, hidden);
    takeEach(data, "mlp.down_proj", hidden, intermediate);
    takeEach(data, "mlp.up_proj", intermediate, hidden);
    take(data, "model.norm.weight", hidden);
  }

  private void takeEach(FloatBuffer data, String module, long... shape) {
    for (int layer = 0; layer < layers; layer++) {
      take(data, "model.layers." + layer + "." + module + ".weight", shape);
    }
  }

  private void take(FloatBuffer data, String name, long... shape) {
    int count = 1;
    for (long size : shape) {
      count *= (int) size;
    }
    float[] values = new float[count];
    data.get(values);
    tensors.put(name, rotary(name) ? halfSplit(values, true) : values);
    shapes.put(name, shape);
  }

  private static boolean rotary(String name) {
    return name.contains(".q_proj.") || name.contains(".k_proj.");
  }

  /** Moves rows between the two layouts; {@code to}: towards (i, i + D/2), else back. */
  private float[] halfSplit(float[] rows, boolean to) {
    int d = hidden / heads;
    float[] moved = new float[rows.length];
    for (int row = 0; row < rows.length / hidden; row++) {
      int inHead = row % d;
      int split = row - inHead + inHead / 2 + inHead % 2 * (d / 2);
      System.arraycopy(rows, (to ? row : split) * hidden, moved, (to ? split : row) * hidden, hidden);
    }
    return moved;
  }

  /** A gradient of the Hugging Face tensor, in llama2.c's layout. */
  public float[] original(String name, float[] gradient) {
    return rotary(name) ? halfSplit(gradient, false) : gradient;
  }

  /** Hugging Face's name of a tensor of {@code gradients.json}. */
  public static String huggingFaceName(String name) {
    String[] parts = name.split("\\.");
    String module =
        switch (parts[0]) {
          case "emb" -> "model.embed_tokens";
          case "rms_f" -> "model.norm";
          case "rms_att" -> "input_layernorm";
          case "wq" -> "self_attn.q_proj";
          case "wk" -> "self_attn.k_proj";
          case "wv" -> "self_attn.v_proj";
          case "wo" -> "self_attn.o_proj";
          case "rms_ffn" -> "post_attention_layernorm";
          case "w1" -> "mlp.gate_proj";
          case "w2" -> "mlp.down_proj";
          case "w3" -> "mlp.up_proj";
          default -> throw new IllegalArgumentException(name);
        };
    return (parts.length == 1 ? module : "model.layers." + parts[1] + "." + module) + ".weight";
  }

  /** Writes config.json and model.safetensors. */
  public void write(Path folder) throws IOException {
    Files.createDirectories(folder);
    Json.write(
        folder.resolve("config.json"),
        Json.object().put("model_type", "llama").put("hidden_size", hidden).put("intermediate_size", intermediate)
            .put("num_hidden_layers", layers).put("num_attention_heads", heads).put("num_key_value_heads", kvHeads)
            .put("vocab_size", vocabulary).put("max_position_embeddings", context).put("rms_norm_eps", 1e-5)
            .put("rope_theta", 10000).put("hidden_act", "silu").put("tie_word_embeddings", true)
            .put("bos_token_id", BOS).put("eos_token_id", 2).put("torch_dtype", "float32"));
    List<SafetensorsWriter.Tensor> declared = new ArrayList<>();
    shapes.forEach((name, shape) -> declared.add(new SafetensorsWriter.Tensor(name, TensorType.F32, shape)));
    SafetensorsWriter.writeModel(
        folder, declared, SafetensorsWriter.DEFAULT_SHARD_BYTES,
        (t, sink) -> sink.floats(FloatBuffer.wrap(tensors.get(t.name()))));
  }

  /** The text of tokens that follow BOS, by its own vocabulary of 512 pieces. */
  public static String decode(int[] ids) throws IOException {
    ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file("tok512.bin"))).order(ByteOrder.LITTLE_ENDIAN);
    in.getInt(); // the longest piece
    List<byte[]> pieces = new ArrayList<>();
    while (in.hasRemaining()) {
      in.getFloat(); // its score
      byte[] piece = new byte[in.getInt()];
      in.get(piece);
      pieces.add(piece);
    }
    ByteArrayOutputStream text = new ByteArrayOutputStream();
    for (int i = 0; i < ids.length; i++) {
      String piece = new String(pieces.get(ids[i]), StandardCharsets.UTF_8);
      if (piece.matches("<0x[0-9A-F]{2}>")) {
        text.write(Integer.parseInt(piece.substring(3, 5), 16));
      } else {
        text.writeBytes((i == 0 && piece.startsWith(" ") ? piece.substring(1) : piece).getBytes(StandardCharsets.UTF_8));
      }
    }
    return text.toString(StandardCharsets.UTF_8);
  }
}
