package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.lifecycle.AfterContainer;
import net.jqwik.api.lifecycle.BeforeContainer;

/** What holds for any content, and for any damage to it. */
class SafetensorsPropertyTest {
  private static Path folder;

  @BeforeContainer
  static void makeFolder() throws IOException {
    folder = Files.createTempDirectory("oribi-safetensors");
  }

  @AfterContainer
  static void removeFolder() {
    AtomicFiles.deleteTree(folder);
  }

  /** Tensors of random type, shape and name, with data derived from the name. */
  private static List<SafetensorsWriter.Tensor> tensors(Random random, int count) {
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      TensorType type = TensorType.values()[random.nextInt(TensorType.values().length)];
      long[] shape = random.longs(random.nextInt(4), 0, 6).toArray();
      if (type.bits() % 8 != 0) {
        shape = new long[] {4L * random.nextInt(5)};
      }
      tensors.add(new SafetensorsWriter.Tensor("t\u00e4nsor \"" + random.nextInt(1000) + "\"." + i, type, shape));
    }
    return tensors;
  }

  private static byte[] data(SafetensorsWriter.Tensor tensor) {
    byte[] data = new byte[(int) tensor.bytes()];
    new Random(tensor.name().hashCode()).nextBytes(data);
    return data;
  }

  /** Gives the data in two pieces. */
  private static void give(SafetensorsWriter.Tensor tensor, SafetensorsWriter.Sink sink) throws IOException {
    byte[] data = data(tensor);
    int cut = data.length / 3;
    sink.bytes(ByteBuffer.wrap(data, 0, cut));
    sink.bytes(ByteBuffer.wrap(data, cut, data.length - cut));
  }

  @Property(tries = 100)
  void whatIsWrittenIsRead(@ForAll long seed, @ForAll @IntRange(max = 12) int count) throws IOException {
    Random random = new Random(seed);
    List<SafetensorsWriter.Tensor> tensors = tensors(random, count);
    Path path = folder.resolve("round.safetensors");
    SafetensorsWriter.write(path, tensors, SafetensorsWriter.PT, SafetensorsPropertyTest::give);
    byte[] written = Files.readAllBytes(path);
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      assertThat(file.metadata()).isEqualTo(SafetensorsWriter.PT);
      assertThat(file.tensors().keySet()).containsExactlyInAnyOrderElementsOf(tensors.stream().map(SafetensorsWriter.Tensor::name).toList());
      for (SafetensorsWriter.Tensor tensor : tensors) {
        TensorInfo info = file.tensors().get(tensor.name());
        assertThat(info.type()).isEqualTo(tensor.type());
        assertThat(info.shape()).isEqualTo(tensor.shape());
        byte[] read = new byte[(int) info.bytes()];
        file.slice(info, 0, read.length).get(read);
        assertThat(read).isEqualTo(data(tensor));
        assertThat((written.length - dataBytes(tensors)) % 8).as("where the data begins").isZero();
        assertThat(info.begin() % Math.max(1, info.type().bits() / 8)).as("alignment of " + info).isZero();
      }
    }
    Collections.shuffle(tensors, random);
    SafetensorsWriter.write(path, tensors, SafetensorsWriter.PT, SafetensorsPropertyTest::give);
    assertThat(Files.readAllBytes(path)).as("the order of declaration does not matter").isEqualTo(written);
  }

  private static long dataBytes(List<SafetensorsWriter.Tensor> tensors) {
    return tensors.stream().mapToLong(SafetensorsWriter.Tensor::bytes).sum();
  }

  @Property(tries = 2000)
  void damageIsRefusedOrHarmless(@ForAll long seed, @ForAll @IntRange(min = 1, max = 4) int wounds) throws IOException {
    Random random = new Random(seed);
    byte[] bytes = intact(random);
    for (int i = 0; i < wounds; i++) {
      bytes = damage(bytes, random);
    }
    Path path = Files.write(folder.resolve("damaged.safetensors"), bytes);
    long limit = 2_000_000 + 64L * bytes.length;
    long allocated = allocatedByReading(path, bytes.length);
    if (allocated >= limit) {
      allocated = allocatedByReading(path, bytes.length); // The first time the classes were loaded, too.
    }
    assertThat(allocated).isLessThan(limit);
  }

  private static long allocatedByReading(Path path, long length) throws IOException {
    long before = Allocation.byThisThread();
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      for (TensorInfo info : file.tensors().values()) {
        assertThat(info.end()).isLessThanOrEqualTo(length);
        ByteBuffer slice = file.slice(info, 0, (int) info.bytes());
        while (slice.hasRemaining()) {
          slice.get();
        }
      }
    } catch (OribiException e) {
      assertThat(e.getMessage().lines()).hasSize(1);
    }
    return Allocation.byThisThread() - before;
  }

  /** One of twenty good files; each is written once. */
  private static byte[] intact(Random random) throws IOException {
    int count = random.nextInt(20);
    Path path = folder.resolve("intact" + count + ".safetensors");
    if (!Files.exists(path)) {
      SafetensorsWriter.write(path, tensors(random, count), SafetensorsWriter.PT, SafetensorsPropertyTest::give);
    }
    return Files.readAllBytes(path);
  }

  /** Flips a bit, writes a digit or a bracket over a byte of the header, cuts the end off, doubles a piece, or lies about the length. */
  private static byte[] damage(byte[] bytes, Random random) {
    if (bytes.length == 0) {
      return bytes;
    }
    byte[] copy = bytes.clone();
    int at = random.nextInt(Math.min(bytes.length, 400));
    switch (random.nextInt(6)) {
      case 0 -> copy[at] ^= (byte) (1 << random.nextInt(8));
      case 1 -> copy[at] = (byte) "0123456789-.[]{}\",:".charAt(random.nextInt(19));
      case 2 -> copy = Arrays.copyOf(bytes, random.nextInt(bytes.length));
      case 3 -> copy[random.nextInt(Math.min(8, bytes.length))] = (byte) random.nextInt();
      case 4 -> copy[random.nextInt(bytes.length)] = (byte) random.nextInt();
      default -> {
        copy = Arrays.copyOf(bytes, bytes.length + bytes.length - at);
        System.arraycopy(bytes, at, copy, bytes.length, bytes.length - at);
      }
    }
    return copy;
  }
}
