package dev.oribi.io;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Map;

/**
 * One safetensors file, checked and mapped into memory; nothing is copied until it is asked for.
 *
 * <p>{@link #open} believes nothing the file says: lengths are compared with the size of the file before memory is taken,
 * and the tensors must cover the data without gap or overlap. Every error is an {@link OribiException} that names the file.
 * The file must not shrink while it is open; each new mapping checks that its size is still what it was.
 *
 * <p>Threads may share one instance. Buffers from {@link #slice} stay valid after {@link #close}; their memory goes back
 * when the last of them is garbage.
 */
public final class SafetensorsFile implements AutoCloseable {
  /** Bytes that hold the length of the header. */
  static final int PREFIX = 8;

  /** Longest header that the format allows. */
  static final long MAX_HEADER = 100_000_000;

  /** Windows of the mapping begin at multiples of this and are up to twice as long, so that slices up to it need just one. */
  private static final long WINDOW = 1L << 30;

  private static final int CHUNK = 1 << 20;

  private final Path file;
  private final FileChannel channel;
  private final long size;
  private final SafetensorsHeader header;
  private final ByteBuffer[] windows;

  private SafetensorsFile(Path file, FileChannel channel, long size, SafetensorsHeader header) {
    this.file = file;
    this.channel = channel;
    this.size = size;
    this.header = header;
    this.windows = new ByteBuffer[Math.toIntExact(size / WINDOW + 1)];
  }

  /** Opens a file and checks its header. The caller closes it. */
  public static SafetensorsFile open(Path file) {
    if (!Files.isRegularFile(file)) {
      throw new OribiException(file + ": no such file.");
    }
    FileChannel channel = null;
    SafetensorsFile opened = null;
    try {
      channel = FileChannel.open(file, StandardOpenOption.READ);
      long size = channel.size();
      byte[] json = readHeader(file, channel, size);
      SafetensorsHeader header = SafetensorsHeader.parse(file, json, size - PREFIX - json.length);
      opened = new SafetensorsFile(file, channel, size, header);
      return opened;
    } catch (IOException e) {
      throw unreadable(file, e);
    } finally {
      if (opened == null) {
        closeQuietly(channel);
      }
    }
  }

  private static byte[] readHeader(Path file, FileChannel channel, long size) throws IOException {
    if (size < PREFIX) {
      throw new OribiException(file + ": is not a safetensors file, it has only " + size + " bytes.");
    }
    ByteBuffer prefix = ByteBuffer.allocate(PREFIX).order(ByteOrder.LITTLE_ENDIAN);
    readFully(file, channel, prefix, 0);
    long length = prefix.getLong(0);
    if (length < 0 || length > MAX_HEADER) {
      throw new OribiException(file + ": is not a safetensors file, its header would have " + Long.toUnsignedString(length)
          + " bytes and " + MAX_HEADER + " are allowed.");
    }
    if (length > size - PREFIX) {
      throw new OribiException(file + ": is truncated, its header should have " + length + " bytes and the file has only "
          + size + "; fetch it again.");
    }
    byte[] json = new byte[(int) length];
    readFully(file, channel, ByteBuffer.wrap(json), PREFIX);
    return json;
  }

  private static void readFully(Path file, FileChannel channel, ByteBuffer into, long position) throws IOException {
    while (into.hasRemaining()) {
      int n = channel.read(into, position);
      if (n < 0) {
        throw new OribiException(file + ": became shorter while it was read.");
      }
      position += n;
    }
  }

  /** The tensors by name, in the order in which they lie in the file. */
  public Map<String, TensorInfo> tensors() {
    return header.tensors();
  }

  /** The free text of {@code __metadata__}; empty if there is none. */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  public Path file() {
    return file;
  }

  /** Bytes {@code offset} to {@code offset + length} of a tensor of this file: little-endian, read-only, not copied. */
  public ByteBuffer slice(TensorInfo t, long offset, int length) {
    if (!t.file().equals(file)) {
      throw new IllegalArgumentException(t + " is not in " + file);
    }
    if (offset < 0 || length < 0 || length > t.bytes() - offset) {
      throw new IndexOutOfBoundsException("bytes " + offset + " + " + length + " of " + t);
    }
    if (length == 0) {
      return ByteBuffer.allocate(0).asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }
    long begin = header.dataBegin() + t.begin() + offset;
    ByteBuffer bytes = length > WINDOW ? map(begin, length) : window(begin).slice((int) (begin % WINDOW), length);
    return bytes.order(ByteOrder.LITTLE_ENDIAN);
  }

  /**
   * Fills {@code into} with elements of a tensor as floats, from {@code elementOffset} on.
   *
   * @throws OribiException if the type is none of F16, BF16, F32, F64
   */
  public void readFloats(TensorInfo t, long elementOffset, FloatBuffer into) {
    int width = floatBytes(t);
    long at = Math.multiplyExact(elementOffset, width);
    int end = into.limit();
    while (into.position() < end) {
      int n = Math.min(CHUNK, end - into.position());
      ByteBuffer from = slice(t, at, n * width);
      into.limit(into.position() + n);
      switch (t.type()) {
        case F32 -> into.put(from.asFloatBuffer());
        case BF16 -> Half.widenBf16(from.asShortBuffer(), into);
        case F16 -> Half.widenF16(from.asShortBuffer(), into);
        default -> {
          while (into.hasRemaining()) {
            into.put((float) from.getDouble());
          }
        }
      }
      at += (long) n * width;
    }
    into.limit(end);
  }

  private int floatBytes(TensorInfo t) {
    return switch (t.type()) {
      case F16, BF16, F32, F64 -> t.type().bits() / 8;
      default -> throw new OribiException(file + ": tensor " + Json.shorten(t.name()) + " has type " + t.type()
          + "; F32, BF16, F16 or F64 is needed here.");
    };
  }

  private synchronized ByteBuffer window(long begin) {
    int i = (int) (begin / WINDOW);
    if (windows[i] == null) {
      long from = i * WINDOW;
      windows[i] = map(from, Math.min(Integer.MAX_VALUE, size - from));
    }
    return windows[i];
  }

  private ByteBuffer map(long from, long length) {
    try {
      if (channel.size() != size) {
        throw new OribiException(file + ": changed its size while it was in use.");
      }
      return channel.map(FileChannel.MapMode.READ_ONLY, from, length);
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  @Override
  public void close() {
    closeQuietly(channel);
  }

  private static OribiException unreadable(Path file, IOException e) {
    String reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    return new OribiException(file + ": cannot be read: " + reason + ".", e);
  }

  private static void closeQuietly(FileChannel channel) {
    try {
      if (channel != null) {
        channel.close();
      }
    } catch (IOException e) {
      throw new OribiException("Cannot close a safetensors file: " + e.getMessage() + ".", e);
    }
  }
}
