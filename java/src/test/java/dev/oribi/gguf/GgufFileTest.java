package dev.oribi.gguf;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.text.TestData;
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
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files written and read back, a file of llama.cpp's own converter, and files that lie. */
class GgufFileTest {
  @TempDir private Path folder;

  static Map<String, GgufValue> metadata() {
    Map<String, GgufValue> all = new LinkedHashMap<>();
    all.put("general.architecture", GgufValue.string("llama"));
    all.put("llama.block_count", GgufValue.u32(2));
    all.put("llama.eps", GgufValue.f32(1e-5));
    all.put("tokenizer.ggml.tokens", GgufValue.strings(List.of("a", "ü", "", "<s>")));
    all.put("tokenizer.ggml.scores", GgufValue.f32s(new float[] {0, -1.5f, 2, 3}));
    all.put("tokenizer.ggml.token_type", GgufValue.i32s(new int[] {1, 1, 1, 3}));
    all.put("tokenizer.ggml.add_bos_token", GgufValue.bool(true));
    all.put("x.i8", new GgufValue(GgufValue.Type.I8, false, -7L));
    all.put("x.u16", new GgufValue(GgufValue.Type.U16, false, 65_535L));
    all.put("x.f64", new GgufValue(GgufValue.Type.F64, false, Math.PI));
    all.put("x.u64", new GgufValue(GgufValue.Type.U64, false, -1L));
    return all;
  }

  static Path write(Path file) {
    List<GgufWriter.Tensor> tensors = List.of(
        new GgufWriter.Tensor("token_embd.weight", GgmlType.Q8_0, 4, 64),
        new GgufWriter.Tensor("output_norm.weight", GgmlType.F32, 5),
        new GgufWriter.Tensor("blk.0.attn_q.weight", GgmlType.Q6_K, 2, 256));
    GgufWriter.write(file, metadata(), tensors, (t, sink) -> sink.floats(values(t), (int) t.elements()));
    return file;
  }

  private static float[] values(GgufWriter.Tensor t) {
    Random random = new Random(t.name().hashCode());
    float[] x = new float[(int) t.elements()];
    for (int i = 0; i < x.length; i++) {
      x[i] = (float) random.nextGaussian();
    }
    return x;
  }

  @Test
  void comesBack() throws IOException {
    Path file = write(folder.resolve("a.gguf"));
    try (GgufFile read = GgufFile.open(file)) {
      assertThat(read.metadata().keySet()).containsExactlyElementsOf(metadata().keySet());
      metadata().forEach((key, value) -> {
        GgufValue there = read.metadata().get(key);
        assertThat(there.type()).isEqualTo(value.type());
        assertThat(there.value()).as(key).isEqualTo(value.value());
      });
      assertThat(read.tensors().keySet()).containsExactly("token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight");
      GgufTensor norm = read.tensor("output_norm.weight");
      FloatBuffer back = FloatBuffer.allocate(5);
      read.readFloats(norm, 0, back);
      assertThat(back.array()).isEqualTo(values(new GgufWriter.Tensor(norm.name(), GgmlType.F32, 5)));
      GgufTensor q = read.tensor("blk.0.attn_q.weight");
      assertThat(q.shape()).containsExactly(2, 256);
      assertThat(q.bytes()).isEqualTo(420);
      FloatBuffer second = FloatBuffer.allocate(256);
      read.readFloats(q, 256, second);
      float[] all = values(new GgufWriter.Tensor(q.name(), GgmlType.Q6_K, 2, 256));
      for (int i = 0; i < 256; i++) {
        assertThat(second.get(i)).isCloseTo(all[256 + i], org.assertj.core.data.Offset.offset(0.1f));
      }
    }
  }

  @Test
  void equalContentGivesEqualBytes() throws IOException {
    assertThat(write(folder.resolve("a.gguf"))).hasSameBinaryContentAs(write(folder.resolve("b.gguf")));
  }

  @Test
  void aFailedWriteLeavesTheOldFileAlone() throws IOException {
    Path file = write(folder.resolve("a.gguf"));
    byte[] before = Files.readAllBytes(file);
    List<GgufWriter.Tensor> one = List.of(new GgufWriter.Tensor("t", GgmlType.F32, 4));
    assertThatThrownBy(() -> GgufWriter.write(file, Map.of(), one, (t, sink) -> {
      throw new IOException("No space left on device");
    })).isInstanceOf(OribiException.class).hasMessageContaining("disk is full");
    assertThatThrownBy(() -> GgufWriter.write(file, Map.of(), one, (t, sink) -> sink.floats(new float[3], 3)))
        .isInstanceOf(IllegalStateException.class).hasMessageContaining("missing");
    assertThat(Files.readAllBytes(file)).isEqualTo(before);
    try (var files = Files.list(folder)) {
      assertThat(files).containsExactly(file);
    }
  }

  /** Published weights, written by llama.cpp's converter. */
  @Test
  void readsAFileOfLlamaCpp() {
    try (GgufFile file = GgufFile.open(TestData.file("stories260K/stories260K.gguf"))) {
      assertThat(file.required("general.architecture").text("a")).isEqualTo("llama");
      assertThat(file.required("tokenizer.ggml.tokens").strings("t")).hasSize(512);
      assertThat(file.tensors()).hasSize(48);
      assertThat(file.tensor("blk.4.ffn_down.weight").shape()).containsExactly(64, 172);
    }
  }

  // ------------------------------------------------------------------------------------------------------------ lies

  /** A header made of pieces, little-endian. */
  private static final class Bytes {
    private final ByteBuffer b = ByteBuffer.allocate(4096).order(ByteOrder.LITTLE_ENDIAN);

    Bytes head(int version, long tensors, long keys) {
      b.putInt(GgufFile.MAGIC).putInt(version).putLong(tensors).putLong(keys);
      return this;
    }

    Bytes text(String s) {
      byte[] bytes = s.getBytes(StandardCharsets.UTF_8);
      b.putLong(bytes.length).put(bytes);
      return this;
    }

    Bytes i32(int... values) {
      for (int v : values) {
        b.putInt(v);
      }
      return this;
    }

    Bytes i64(long... values) {
      for (long v : values) {
        b.putLong(v);
      }
      return this;
    }

    Bytes tensor(String name, int type, long offset, long... ne) {
      return text(name).i32(ne.length).i64(ne).i32(type).i64(offset);
    }

    Bytes zeros(int n) {
      b.put(new byte[n]);
      return this;
    }

    byte[] bytes() {
      byte[] all = new byte[b.position()];
      b.flip().get(all);
      return all;
    }
  }

  private static Bytes head(int version, long tensors, long keys) {
    return new Bytes().head(version, tensors, keys);
  }

  @Test
  void refusesWhatLies() throws IOException {
    Map<String, Bytes> lies = new LinkedHashMap<>();
    lies.put("letters GGUF", new Bytes().i32(0x12345678, 3).i64(0, 0));
    lies.put("big-endian", head(0x03000000, 0, 0));
    lies.put("version is 1", head(1, 0, 0));
    lies.put("version is 4294967295", head(-1, 0, 0));
    lies.put("counts 1152921504606846976 for the number of tensors", head(3, 1L << 60, 0));
    lies.put("counts 18446744073709551615 for the number of keys", head(3, 0, -1));
    lies.put("truncated, it ends within the number of keys", head(3, 0, 60_000));
    lies.put("counts 9223372036854775807 for the length of a key", head(3, 0, 1).i64(Long.MAX_VALUE).zeros(64));
    lies.put("ends within the length of a key", head(3, 0, 1).i64(1000).zeros(64));
    lies.put("has the type 13", head(3, 0, 1).text("k").i32(13).zeros(32));
    lies.put("array of arrays", head(3, 0, 1).text("k").i32(9, 9).i64(1).zeros(32));
    lies.put("counts 1099511627776 for the value", head(3, 0, 1).text("k").i32(9, 0).i64(1L << 40).zeros(32));
    lies.put("neither true nor false", head(3, 0, 1).text("k").i32(7).i32(2).zeros(32));
    lies.put("occurs twice", head(3, 0, 2).text("k").i32(4, 5).text("k").i32(4, 5).zeros(32));
    lies.put("no power of two", head(3, 0, 1).text("general.alignment").i32(4, 24).zeros(32));
    lies.put("must be from 1", head(3, 0, 1).text("general.alignment").i32(4, 0).zeros(32));
    lies.put("has 5 dimensions", head(3, 1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).zeros(64));
    lies.put("has 0 dimensions", head(3, 1, 0).tensor("t", 0, 0).zeros(64));
    lies.put("has a dimension of 0", head(3, 1, 0).tensor("t", 0, 0, 0).zeros(64));
    lies.put("is too large", head(3, 1, 0).tensor("t", 0, 0, 1L << 40, 1L << 40).zeros(64));
    lies.put("ggml type 4,", head(3, 1, 0).tensor("t", 4, 0, 32).zeros(64));
    lies.put("ggml type 4294967295,", head(3, 1, 0).tensor("t", -1, 0, 32).zeros(64));
    lies.put("no whole blocks of Q4_K", head(3, 1, 0).tensor("t", 12, 0, 255).zeros(200));
    lies.put("no multiple of 32", head(3, 1, 0).tensor("t", 0, 4, 4).zeros(128));
    lies.put("ends within tensor", head(3, 1, 0).tensor("t", 0, 0, 1024).zeros(64));
    lies.put("begins at 18446744073709551584", head(3, 1, 0).tensor("t", 0, -32, 4).zeros(64));
    lies.put("inside another one", head(3, 2, 0).tensor("t", 0, 0, 16).tensor("u", 0, 32, 4).zeros(160));
    lies.put("the tensor t occurs twice", head(3, 2, 0).tensor("t", 0, 0, 4).tensor("t", 0, 32, 4).zeros(160));
    for (Map.Entry<String, Bytes> lie : lies.entrySet()) {
      Path file = folder.resolve("lie.gguf");
      Files.write(file, lie.getValue().bytes());
      assertThatThrownBy(() -> GgufFile.open(file).close()).as(lie.getKey())
          .isInstanceOf(OribiException.class).hasMessageContaining(lie.getKey());
    }
  }

  /** Every prefix of a good file is an error with a message, never anything else. */
  @Test
  void everyTruncationIsNoticed() throws IOException {
    byte[] good = Files.readAllBytes(write(folder.resolve("a.gguf")));
    Path file = folder.resolve("cut.gguf");
    for (int length = 0; length < good.length - 31; length += 1 + length / 64) {
      Files.write(file, java.util.Arrays.copyOf(good, length));
      assertThatThrownBy(() -> GgufFile.open(file).close()).as("length " + length).isInstanceOf(OribiException.class);
    }
  }

  @Test
  void refusesTensorsThatCannotBeWritten() {
    List<Runnable> wrong = new ArrayList<>();
    wrong.add(() -> new GgufWriter.Tensor("x".repeat(64), GgmlType.F32, 4));
    wrong.add(() -> new GgufWriter.Tensor("t", GgmlType.Q4_K, 4, 192));
    wrong.add(() -> new GgufWriter.Tensor("t", GgmlType.F32));
    for (Runnable r : wrong) {
      assertThatThrownBy(r::run).isInstanceOf(IllegalArgumentException.class);
    }
  }
}
