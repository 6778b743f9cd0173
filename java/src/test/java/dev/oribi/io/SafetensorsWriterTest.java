package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.SafetensorsWriter.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class SafetensorsWriterTest {
  @TempDir Path folder;

  @Test
  void layoutIsCanonicalToTheByte() throws IOException {
    Path path = folder.resolve("c.safetensors");
    SafetensorsWriter.write(path, List.of(new Tensor("b", TensorType.U8, 1), new Tensor("a", TensorType.U8, 1), new Tensor("z", TensorType.F32)),
        SafetensorsWriter.PT, (t, sink) -> {
          if (t.name().equals("z")) {
            sink.floats(FloatBuffer.wrap(new float[] {1f}));
          } else {
            sink.bytes(ByteBuffer.wrap(t.name().getBytes(StandardCharsets.US_ASCII)));
          }
        });
    String header = "{\"__metadata__\":{\"format\":\"pt\"},\"z\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
        + "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}";
    String padded = header + " ".repeat(-header.length() & 7);
    assertThat(Files.readAllBytes(path)).isEqualTo(SafetensorsFileTest.bytes(padded, new byte[] {0, 0, (byte) 0x80, 0x3f, 'a', 'b'}));
  }

  @Test
  void floatsAreConvertedInChunks() {
    int n = 200_001;
    float[] values = new float[n];
    for (int i = 0; i < n; i++) {
      values[i] = (i - n / 2) * 0.37f;
    }
    for (TensorType type : List.of(TensorType.F32, TensorType.BF16, TensorType.F16)) {
      Path path = folder.resolve(type + ".safetensors");
      SafetensorsWriter.write(path, List.of(new Tensor("x", type, 3, n / 3)), Map.of(), (t, sink) -> {
        sink.floats(FloatBuffer.wrap(values, 0, 70_000));
        sink.floats(FloatBuffer.wrap(values, 70_000, n - 70_000));
      });
      FloatBuffer read = FloatBuffer.allocate(n);
      try (Checkpoint c = Checkpoint.open(path)) {
        c.readFloats(c.tensor("x"), 0, read);
      }
      for (int i = 0; i < n; i++) {
        float expected = type == TensorType.F32 ? values[i]
            : type == TensorType.BF16 ? Half.fromBf16(Half.toBf16(values[i])) : Half.fromF16(Half.toF16(values[i]));
        assertThat(read.get(i)).isEqualTo(expected);
      }
    }
  }

  @Test
  void tooLittleTooMuchAndTwiceAreMistakesThatLeaveNothing() throws IOException {
    Path path = folder.resolve("bad.safetensors");
    List<Tensor> one = List.of(new Tensor("x", TensorType.F32, 2));
    assertThatThrownBy(() -> SafetensorsWriter.write(path, one, Map.of(), (t, sink) -> sink.floats(FloatBuffer.allocate(1))))
        .isInstanceOf(IllegalStateException.class).hasMessageContaining("missing");
    assertThatThrownBy(() -> SafetensorsWriter.write(path, one, Map.of(), (t, sink) -> sink.floats(FloatBuffer.allocate(3))))
        .isInstanceOf(IllegalStateException.class).hasMessageContaining("too much");
    assertThatThrownBy(() -> SafetensorsWriter.write(path, List.of(one.get(0), one.get(0)), Map.of(), (t, sink) -> { }))
        .isInstanceOf(IllegalArgumentException.class).hasMessageContaining("twice");
    assertThatThrownBy(() -> new Tensor("__metadata__", TensorType.F32, 2)).isInstanceOf(IllegalArgumentException.class);
    try (Stream<Path> left = Files.list(folder)) {
      assertThat(left).isEmpty();
    }
  }

  @Test
  void shardsAndIndexReadBackAsOneCheckpoint() throws IOException {
    List<Tensor> tensors = List.of(new Tensor("a", TensorType.F32, 10), new Tensor("b", TensorType.F32, 10),
        new Tensor("huge", TensorType.F32, 100), new Tensor("c", TensorType.BF16, 5));
    SafetensorsWriter.Source source = (t, sink) -> {
      float[] values = new float[(int) TensorType.elements(t.shape())];
      java.util.Arrays.fill(values, t.name().charAt(0));
      sink.floats(FloatBuffer.wrap(values));
    };
    SafetensorsWriter.writeModel(folder, tensors, 80, source);
    try (Stream<Path> files = Files.list(folder)) {
      assertThat(files.map(p -> p.getFileName().toString())).containsExactlyInAnyOrder("model-00001-of-00003.safetensors",
          "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", "model.safetensors.index.json");
    }
    assertThat(Json.read(folder.resolve(Checkpoint.INDEX)).at("/metadata/total_size").longValue()).isEqualTo(490);
    try (Checkpoint c = Checkpoint.open(folder)) {
      assertThat(c.tensors().keySet()).containsExactlyInAnyOrder("a", "b", "huge", "c");
      assertThat(c.tensor("b").file()).isEqualTo(c.tensor("a").file());
      FloatBuffer huge = FloatBuffer.allocate(100);
      c.readFloats(c.tensor("huge"), 0, huge);
      assertThat(huge.get(99)).isEqualTo('h');
    }
    assertThatThrownBy(() -> SafetensorsWriter.writeModel(folder, tensors, 1000, source)).isInstanceOf(OribiException.class)
        .hasMessageContaining("exists already");
    Path single = folder.resolve("single");
    SafetensorsWriter.writeModel(single, tensors, 1000, source);
    assertThat(single.resolve(Checkpoint.SINGLE)).exists();
    assertThat(single.resolve(Checkpoint.INDEX)).doesNotExist();
  }
}
