package dev.oribi.data;

import dev.oribi.OribiException;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;

/**
 * Rows in a file, read one by one when they are asked for; sixteen bytes a row are in memory. The file stays open for the life of the
 * program. {@link RowFileWriter} has its layout.
 */
final class RowFile implements RowStore {
  private final Path file;
  private final FileChannel channel;
  private final long[] begins;
  private final int[] bytes;
  private final int[] lengths;

  RowFile(Path file, RowFileWriter.Places places) {
    this.file = file;
    this.begins = places.begins();
    this.bytes = places.bytes();
    this.lengths = places.lengths();
    try {
      this.channel = FileChannel.open(file, StandardOpenOption.READ);
    } catch (IOException e) {
      throw new OribiException("Cannot read tokenized rows from " + file + ": " + e.getMessage() + ".", e);
    }
  }

  @Override
  public int size() {
    return lengths.length;
  }

  @Override
  public int length(int i) {
    return lengths[i];
  }

  @Override
  public Row row(int i) {
    ByteBuffer row = ByteBuffer.allocate(bytes[i]);
    try {
      while (row.hasRemaining()) {
        if (channel.read(row, begins[i] + row.position()) < 0) {
          throw new IOException("it has become shorter");
        }
      }
    } catch (IOException e) {
      throw new OribiException("Cannot read tokenized rows from " + file + ": " + e.getMessage() + "; was it changed or deleted?", e);
    }
    return RowBytes.read(row.flip());
  }

  /** What a whole file holds. */
  record Contents(RowStore rows, Report report) {}

  /** Everything that a file holds, in memory if it is small enough. Null if the file is not whole. */
  static Contents open(Path file, long memory) throws IOException {
    MessageDigest sha = RowFileWriter.sha256();
    long size = Files.size(file);
    long end = size - RowFileWriter.FOOTER;
    if (end < Integer.BYTES) {
      return null;
    }
    try (InputStream raw = new BufferedInputStream(Files.newInputStream(file), 1 << 16);
        Digested in = new Digested(raw, sha)) {
      DataInputStream data = new DataInputStream(in);
      if (data.readInt() != RowFileWriter.MAGIC) {
        return null;
      }
      Index index = new Index(memory, end);
      while (data.readBoolean()) {
        int length = data.readInt();
        if (length < 0 || length > end - in.position) {
          return null;
        }
        index.add(in.position, data.readNBytes(length));
      }
      Report report = RowBytes.readReport(data);
      long trailer = in.position;
      byte[] digest = sha.digest();
      byte[] stored = raw.readNBytes(RowFileWriter.FOOTER);
      boolean whole = trailer == end && MessageDigest.isEqual(digest, stored);
      return whole ? new Contents(index.store(file), report) : null;
    } catch (java.io.EOFException | java.nio.BufferUnderflowException | IllegalArgumentException | NegativeArraySizeException e) {
      return null;
    }
  }

  /** Digests and counts what is read, all through single reads of the stream behind. */
  private static final class Digested extends java.io.FilterInputStream {
    private final MessageDigest sha;
    private long position;

    Digested(InputStream in, MessageDigest sha) {
      super(in);
      this.sha = sha;
    }

    @Override
    public int read() throws IOException {
      int b = super.read();
      if (b >= 0) {
        sha.update((byte) b);
        position++;
      }
      return b;
    }

    @Override
    public int read(byte[] to, int offset, int length) throws IOException {
      int n = super.read(to, offset, length);
      if (n > 0) {
        sha.update(to, offset, n);
        position += n;
      }
      return n;
    }
  }

  private static final class Index {
    private final boolean inMemory;
    private final List<Row> rows = new ArrayList<>();
    private final RowFileWriter.Places places = new RowFileWriter.Places();

    Index(long memory, long bytes) {
      // In memory a token takes at most twice what it takes in the file.
      inMemory = bytes <= memory / 2;
    }

    void add(long begin, byte[] row) {
      ByteBuffer bytes = ByteBuffer.wrap(row);
      if (inMemory) {
        rows.add(RowBytes.read(bytes));
      } else {
        places.add(begin, row.length, RowBytes.length(bytes));
      }
    }

    RowStore store(Path file) {
      return inMemory ? new RowStore.Memory(rows) : new RowFile(file, places);
    }
  }
}
