package dev.oribi.gguf;

import dev.oribi.gguf.GgufValue.Type;
import dev.oribi.io.AtomicFiles;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Writes a GGUF file without ever holding a whole tensor: keys and tensors are declared first, then the tensors' data is asked
 * for one by one, in the order given. Equal content gives equal bytes; the file appears whole or not at all.
 */
public final class GgufWriter {
  /** ggml's arrays for names have 64 bytes with the zero at the end. */
  private static final int MAX_NAME = 63;

  private static final int BUFFER = 1 << 20;

  /**
   * A tensor to be written.
   *
   * @param shape dimensions, outermost first
   */
  public record Tensor(String name, GgmlType type, long... shape) {
    public Tensor {
      shape = shape.clone();
      boolean named = !name.isEmpty() && name.getBytes(StandardCharsets.UTF_8).length <= MAX_NAME;
      boolean shaped = shape.length >= 1 && shape.length <= 4 && Arrays.stream(shape).allMatch(d -> d > 0);
      if (!named || !shaped || !type.fits(shape[shape.length - 1])) {
        throw new IllegalArgumentException("no tensor of a GGUF file: " + name + " " + type + Arrays.toString(shape));
      }
    }

    @Override
    public long[] shape() {
      return shape.clone();
    }

    public long elements() {
      return Arrays.stream(shape).reduce(1, Math::multiplyExact);
    }

    public long bytes() {
      return type.bytes(elements());
    }
  }

  /** Gives the data of a tensor when its turn comes. */
  @FunctionalInterface
  public interface Source {
    void write(Tensor tensor, Sink sink) throws IOException;
  }

  /** Takes the data of one tensor, as blocks or as floats that are encoded. */
  public static final class Sink {
    private final Tensor tensor;
    private final Out out;
    private long left;

    private Sink(Tensor tensor, Out out) {
      this.tensor = tensor;
      this.out = out;
      this.left = tensor.bytes();
    }

    /** Appends bytes as they are. */
    public void bytes(ByteBuffer data) throws IOException {
      if (data.remaining() > left) {
        throw new IllegalStateException("too much data for " + tensor.name());
      }
      left -= data.remaining();
      out.put(data);
    }

    /** Appends {@code n} values, whole blocks, encoded in the tensor's type. */
    public void floats(float[] values, int n) throws IOException {
      bytes(GgmlBlocks.encode(tensor.type(), values, n));
    }
  }

  private GgufWriter() {}

  /** Writes one file, replacing it if it exists. */
  public static void write(Path file, Map<String, GgufValue> metadata, List<Tensor> tensors, Source source) {
    Set<String> names = new HashSet<>();
    for (Tensor t : tensors) {
      if (!names.add(t.name())) {
        throw new IllegalArgumentException("tensor " + t.name() + " is declared twice");
      }
    }
    AtomicFiles.file(file, channel -> {
      Out out = new Out(channel);
      header(out, metadata, tensors);
      out.align();
      for (Tensor t : tensors) {
        Sink sink = new Sink(t, out);
        source.write(t, sink);
        if (sink.left != 0) {
          throw new IllegalStateException(sink.left + " bytes are missing for " + t.name());
        }
        out.align();
      }
      out.flush();
    });
  }

  private static void header(Out out, Map<String, GgufValue> metadata, List<Tensor> tensors) throws IOException {
    out.i32(GgufFile.MAGIC);
    out.i32(GgufFile.VERSION);
    out.i64(tensors.size());
    out.i64(metadata.size());
    for (Map.Entry<String, GgufValue> e : metadata.entrySet()) {
      out.string(e.getKey());
      out.value(e.getValue());
    }
    long offset = 0;
    for (Tensor t : tensors) {
      out.string(t.name());
      out.i32(t.shape.length);
      for (int d = t.shape.length - 1; d >= 0; d--) {
        out.i64(t.shape[d]);
      }
      out.i32(t.type().id());
      out.i64(offset);
      offset = GgufFile.align(offset + t.bytes(), GgufFile.DEFAULT_ALIGNMENT);
    }
  }

  /** The file behind a buffer, little-endian. */
  private static final class Out {
    private final FileChannel channel;
    private final ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER).order(ByteOrder.LITTLE_ENDIAN);
    private long written;

    Out(FileChannel channel) {
      this.channel = channel;
    }

    void flush() throws IOException {
      buffer.flip();
      written += buffer.remaining();
      while (buffer.hasRemaining()) {
        channel.write(buffer);
      }
      buffer.clear();
    }

    private void room(int bytes) throws IOException {
      if (buffer.remaining() < bytes) {
        flush();
      }
    }

    void align() throws IOException {
      long at = written + buffer.position();
      room((int) GgufFile.DEFAULT_ALIGNMENT);
      for (long end = GgufFile.align(at, GgufFile.DEFAULT_ALIGNMENT); at < end; at++) {
        buffer.put((byte) 0);
      }
    }

    void put(ByteBuffer data) throws IOException {
      while (data.hasRemaining()) {
        room(1);
        int n = Math.min(data.remaining(), buffer.remaining());
        int limit = data.limit();
        buffer.put(data.limit(data.position() + n));
        data.limit(limit);
      }
    }

    void i32(int value) throws IOException {
      room(4);
      buffer.putInt(value);
    }

    void i64(long value) throws IOException {
      room(8);
      buffer.putLong(value);
    }

    void string(String text) throws IOException {
      byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
      i64(bytes.length);
      put(ByteBuffer.wrap(bytes));
    }

    void value(GgufValue v) throws IOException {
      if (!v.array()) {
        i32(v.type().ordinal());
        scalar(v.type(), v.value());
        return;
      }
      i32(Type.ARRAY.ordinal());
      i32(v.type().ordinal());
      if (v.value() instanceof List<?> strings) {
        i64(strings.size());
        for (Object text : strings) {
          string((String) text);
        }
        return;
      }
      int n = java.lang.reflect.Array.getLength(v.value());
      i64(n);
      for (int i = 0; i < n; i++) {
        scalar(v.type(), java.lang.reflect.Array.get(v.value(), i));
      }
    }

    private void scalar(Type type, Object value) throws IOException {
      room(8);
      switch (type) {
        case U8, I8 -> buffer.put((byte) (long) value);
        case U16, I16 -> buffer.putShort((short) (long) value);
        case U32, I32 -> buffer.putInt((int) (long) value);
        case U64, I64 -> buffer.putLong((long) value);
        case F32 -> buffer.putFloat((float) value);
        case F64 -> buffer.putDouble((double) value);
        case BOOL -> buffer.put((byte) ((boolean) value ? 1 : 0));
        case STRING -> string((String) value);
        case ARRAY -> throw new IllegalArgumentException("an array of arrays");
      }
    }
  }
}
