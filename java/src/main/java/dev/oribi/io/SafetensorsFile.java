package dev.oribi.io;

import dev.oribi.OribiException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
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

  private static final int CHUNK = 1 << 20;

  private final MappedFile bytes;
  private final SafetensorsHeader header;

  private SafetensorsFile(MappedFile bytes, SafetensorsHeader header) {
    this.bytes = bytes;
    this.header = header;
  }

  /** Opens a file and checks its header. The caller closes it. */
  public static SafetensorsFile open(Path file) {
    MappedFile bytes = MappedFile.open(file);
    SafetensorsFile opened = null;
    try {
      byte[] json = readHeader(bytes);
      opened = new SafetensorsFile(bytes, SafetensorsHeader.parse(file, json, bytes.size() - PREFIX - json.length));
      return opened;
    } finally {
      if (opened == null) {
        bytes.close();
      }
    }
  }

  private static byte[] readHeader(MappedFile bytes) {
    Path file = bytes.file();
    long size = bytes.size();
    if (size < PREFIX) {
      throw new OribiException(file + ": is not a safetensors file, it has only " + size + " bytes.");
    }
    ByteBuffer prefix = ByteBuffer.allocate(PREFIX).order(ByteOrder.LITTLE_ENDIAN);
    bytes.read(prefix, 0);
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
    bytes.read(ByteBuffer.wrap(json), PREFIX);
    return json;
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
    return bytes.file();
  }

  /** Bytes {@code offset} to {@code offset + length} of a tensor of this file: little-endian, read-only, not copied. */
  public ByteBuffer slice(TensorInfo t, long offset, int length) {
    if (!t.file().equals(file())) {
      throw new IllegalArgumentException(t + " is not in " + file());
    }
    if (offset < 0 || length < 0 || length > t.bytes() - offset) {
      throw new IndexOutOfBoundsException("bytes " + offset + " + " + length + " of " + t);
    }
    return bytes.slice(header.dataBegin() + t.begin() + offset, length);
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
      default -> throw new OribiException(file() + ": tensor " + Json.shorten(t.name()) + " has type " + t.type()
          + "; F32, BF16, F16 or F64 is needed here.");
    };
  }

  @Override
  public void close() {
    bytes.close();
  }
}
