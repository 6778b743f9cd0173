package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsFileTest {
  @TempDir Path folder;

  static byte[] bytes(String header, byte[] data) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    return ByteBuffer.allocate(8 + json.length + data.length).order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).put(json).put(data).array();
  }

  private Path file(String header, int dataBytes) throws IOException {
    return Files.write(folder.resolve("x.safetensors"), bytes(header, new byte[dataBytes]));
  }

  @ParameterizedTest
  @CsvSource(delimiter = ';', quoteCharacter = '`', value = {
      "[]; 0; expected an object for the header",
      "{} {}; 0; more text",
      "{\"a\":1}; 0; expected an object for a",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}; 8; Duplicate",
      "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}; 4; Duplicate",
      "{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}; 4; unknown dtype F31",
      "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}; 4; expected a string",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}; 4; needs dtype, shape and two data_offsets",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2,4]}}; 4; needs dtype, shape and two data_offsets",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"strides\":[1],\"data_offsets\":[0,4]}}; 4; unknown key strides",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}; 4; impossible number -1",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}; 4; expected a whole number",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}; 4; but data_offsets",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99999999999999999999]}}; 4; impossible number",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}; 0; impossible shape",
      "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}; 0; impossible shape",
      "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}; 1; impossible shape",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}; 3; inside the tensor before it",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}; 5; after a gap",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}; 3; after a gap",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}; 1; truncated",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}; 3; belong to no tensor",
      "{\"__metadata__\":{\"format\":1}}; 0; expected a string",
      "{\"__metadata__\":\"pt\"}; 0; expected an object",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[NaN],\"data_offsets\":[0,4]}}; 4; not valid JSON",
  })
  void refuses(String header, int dataBytes, String reason) throws IOException {
    Path file = file(header, dataBytes);
    assertThatThrownBy(() -> SafetensorsFile.open(file)).isInstanceOf(OribiException.class)
        .hasMessageContaining(file.toString()).hasMessageContaining(reason)
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
  }

  @Test
  void deepNestingIsRefusedBeforeTheStackEnds() throws IOException {
    Path file = file("{\"a\":" + "[".repeat(1_000_000), 0);
    assertThatThrownBy(() -> SafetensorsFile.open(file)).isInstanceOf(OribiException.class);
    Path inMetadata = file("{\"__metadata__\":{\"a\":" + "{\"b\":".repeat(1_000_000), 0);
    assertThatThrownBy(() -> SafetensorsFile.open(inMetadata)).isInstanceOf(OribiException.class);
  }

  @Test
  void headerLongerThanTheFileIsRefusedBeforeMemoryIsTaken() throws IOException {
    byte[] lie = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(99_999_999).array();
    Path file = Files.write(folder.resolve("lie.safetensors"), lie);
    long before = Allocation.byThisThread();
    assertThatThrownBy(() -> SafetensorsFile.open(file)).isInstanceOf(OribiException.class).hasMessageContaining("truncated");
    assertThat(Allocation.byThisThread() - before).isLessThan(5_000_000);
  }

  @Test
  void missingFileIsNamed() {
    assertThatThrownBy(() -> SafetensorsFile.open(folder.resolve("none"))).isInstanceOf(OribiException.class)
        .hasMessage(folder.resolve("none") + ": no such file.");
  }

  @Test
  void fileThatShrinksAfterOpeningIsRefused() throws IOException {
    Path path = file("{\"a\":{\"dtype\":\"U8\",\"shape\":[100],\"data_offsets\":[0,100]}}", 100);
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
        channel.truncate(20);
      }
      assertThatThrownBy(() -> file.slice(file.tensors().get("a"), 0, 100)).isInstanceOf(OribiException.class)
          .hasMessageContaining("changed its size");
    }
  }

  @Test
  void scalarEmptyAndSubByteTensorsAreRead() throws IOException {
    Path path = file("{\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"e\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]},"
        + "\"q\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[8,11]},\"__metadata__\":{\"format\":\"pt\"}}", 11);
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      assertThat(file.tensors().keySet()).containsExactly("s", "e", "q");
      assertThat(file.metadata()).containsEntry("format", "pt").hasSize(1);
      assertThat(file.tensors().get("s").elements()).isEqualTo(1);
      assertThat(file.tensors().get("e").elements()).isZero();
      assertThat(file.tensors().get("q").bytes()).isEqualTo(3);
      assertThat(file.slice(file.tensors().get("e"), 0, 0).remaining()).isZero();
      assertThatThrownBy(() -> file.readFloats(file.tensors().get("q"), 0, FloatBuffer.allocate(1)))
          .isInstanceOf(OribiException.class).hasMessageContaining("has type F4");
    }
  }

  @Test
  void slicesAndFloatsAreTheBytesThatWereThere() throws IOException {
    ByteBuffer data = ByteBuffer.allocate(40).order(ByteOrder.LITTLE_ENDIAN);
    data.putDouble(1e-3).putDouble(-2.5).putFloat(3.25f).putFloat(Float.MIN_VALUE);
    data.putShort((short) 0x3fc0).putShort((short) 0xc000); // bf16 1.5, -2
    data.putShort((short) 0x3e00).putShort((short) 0xc000); // f16 1.5, -2
    data.put(new byte[] {1, 2, 3, 4, 5, 6, 7, 8});
    Path path = Files.write(folder.resolve("v.safetensors"), bytes("{\"d\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]},"
        + "\"f\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[24,28]},"
        + "\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[28,32]},\"i\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[32,40]}}", data.array()));
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      assertThat(floats(file, "d")).containsExactly((float) 1e-3, -2.5f);
      assertThat(floats(file, "f")).containsExactly(3.25f, Float.MIN_VALUE);
      assertThat(floats(file, "b")).containsExactly(1.5f, -2f);
      assertThat(floats(file, "h")).containsExactly(1.5f, -2f);
      FloatBuffer second = FloatBuffer.allocate(3).position(1).limit(2);
      file.readFloats(file.tensors().get("f"), 1, second);
      assertThat(second.array()).containsExactly(0f, Float.MIN_VALUE, 0f);
      assertThat(second.position()).isEqualTo(2);
      TensorInfo i = file.tensors().get("i");
      assertThat(file.slice(i, 4, 4).getInt()).isEqualTo(0x08070605);
      assertThat(file.slice(i, 0, 8).isReadOnly()).isTrue();
      assertThatThrownBy(() -> file.slice(i, 4, 5)).isInstanceOf(IndexOutOfBoundsException.class);
      assertThatThrownBy(() -> file.slice(i, -1, 4)).isInstanceOf(IndexOutOfBoundsException.class);
      assertThatThrownBy(() -> file.readFloats(file.tensors().get("f"), 1, FloatBuffer.allocate(2)))
          .isInstanceOf(IndexOutOfBoundsException.class);
    }
  }

  /** A sparse file: 3 GiB of zeros that take no space, with one marked tensor past the first and the second mapping window. */
  @Test
  void tensorsBeyondTwoGibibytesAreReached() throws IOException {
    long big = 3L << 30;
    String header = "{\"big\":{\"dtype\":\"U8\",\"shape\":[" + big + "],\"data_offsets\":[0," + big + "]},"
        + "\"last\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" + big + "," + (big + 4) + "]}}";
    Path path = folder.resolve("sparse.safetensors");
    byte[] head = bytes(header, new byte[0]);
    try (FileChannel out = FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE, StandardOpenOption.SPARSE)) {
      out.write(ByteBuffer.wrap(head));
      out.write(ByteBuffer.wrap(new byte[] {42}), head.length + (2L << 30) + 5);
      out.write(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putFloat(0, 7.5f), head.length + big);
    }
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      assertThat(floats(file, "last")).containsExactly(7.5f);
      TensorInfo t = file.tensors().get("big");
      assertThat(file.slice(t, (2L << 30) + 5, 1).get()).isEqualTo((byte) 42);
      assertThat(file.slice(t, 1L << 30, (1 << 30) + 6).get((1 << 30) + 5)).isEqualTo((byte) 42);
      assertThat(file.slice(t, (2L << 30) - 10, 20).get(15)).isEqualTo((byte) 42);
    }
  }

  private static float[] floats(SafetensorsFile file, String name) {
    TensorInfo t = file.tensors().get(name);
    FloatBuffer into = FloatBuffer.allocate((int) t.elements());
    file.readFloats(t, 0, into);
    return into.array();
  }
}
