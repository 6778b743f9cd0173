package dev.oribi.io;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A file of any size, read by position or mapped into memory piece by piece; nothing is copied by a mapping.
 *
 * <p>The file must not shrink while it is open; each new mapping checks that its size is still what it was. Threads may share
 * one instance. Buffers from {@link #slice} stay valid after {@link #close}; their memory goes back when the last of them
 * is garbage.
 */
public final class MappedFile implements AutoCloseable {
  /** Windows of the mapping begin at multiples of this and are up to twice as long, so that slices up to it need just one. */
  private static final long WINDOW = 1L << 30;

  private final Path file;
  private final FileChannel channel;
  private final long size;
  private final ByteBuffer[] windows;

  private MappedFile(Path file, FileChannel channel, long size) {
    this.file = file;
    this.channel = channel;
    this.size = size;
    this.windows = new ByteBuffer[Math.toIntExact(size / WINDOW + 1)];
  }

  /** Opens a file; the caller closes it. */
  public static MappedFile open(Path file) {
    if (!Files.isRegularFile(file)) {
      throw new OribiException(file + ": no such file.");
    }
    try {
      FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
      return new MappedFile(file, channel, channel.size());
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  public Path file() {
    return file;
  }

  public long size() {
    return size;
  }

  /** Fills {@code into} with the bytes from {@code position} on; an {@link OribiException} where the file ends before. */
  public void read(ByteBuffer into, long position) {
    try {
      while (into.hasRemaining()) {
        int n = channel.read(into, position);
        if (n < 0) {
          throw new OribiException(file + ": became shorter while it was read.");
        }
        position += n;
      }
    } catch (IOException e) {
      throw unreadable(file, e);
    }
  }

  /** Bytes {@code begin} to {@code begin + length}: little-endian, read-only, not copied. */
  public ByteBuffer slice(long begin, int length) {
    if (begin < 0 || length < 0 || length > size - begin) {
      throw new IndexOutOfBoundsException("bytes " + begin + " + " + length + " of " + file);
    }
    if (length == 0) {
      return ByteBuffer.allocate(0).asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN);
    }
    ByteBuffer bytes = length > WINDOW ? map(begin, length) : window(begin).slice((int) (begin % WINDOW), length);
    return bytes.order(ByteOrder.LITTLE_ENDIAN);
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
    try {
      channel.close();
    } catch (IOException e) {
      throw new OribiException(file + ": cannot be closed: " + e.getMessage() + ".", e);
    }
  }

  private static OribiException unreadable(Path file, IOException e) {
    String reason = e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
    return new OribiException(file + ": cannot be read: " + reason + ".", e);
  }
}
