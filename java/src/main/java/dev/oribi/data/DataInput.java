package dev.oribi.data;

import dev.oribi.OribiException;
import java.io.BufferedInputStream;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;

/**
 * The bytes of a file, unpacked if it is gzip, which its first two bytes tell. What unpacks to enormously more than it is ends with
 * an error: a few kilobytes must not keep a machine busy for hours.
 */
final class DataInput {
  private static final int BUFFER = 1 << 16;
  /** Text shrinks to a fifth or so, rows that all say nearly the same to a hundredth. */
  private static final long MAX_RATIO = 400;
  /** Below it nobody minds. */
  private static final long HARMLESS = 64L << 20;

  private DataInput() {}

  static InputStream open(Path file) throws IOException {
    Counting raw = new Counting(Files.newInputStream(file));
    BufferedInputStream in = new BufferedInputStream(raw, BUFFER);
    try {
      in.mark(2);
      boolean gzip = in.read() == 0x1F && in.read() == 0x8B;
      in.reset();
      return gzip ? new BufferedInputStream(new Bounded(new GZIPInputStream(in, BUFFER), raw, file), BUFFER) : in;
    } catch (IOException e) {
      in.close();
      throw e;
    }
  }

  private static final class Counting extends FilterInputStream {
    private long bytes;

    Counting(InputStream in) {
      super(in);
    }

    @Override
    public int read() throws IOException {
      int b = super.read();
      bytes += b < 0 ? 0 : 1;
      return b;
    }

    @Override
    public int read(byte[] to, int offset, int length) throws IOException {
      int n = super.read(to, offset, length);
      bytes += Math.max(0, n);
      return n;
    }
  }

  private static final class Bounded extends FilterInputStream {
    private final Counting packed;
    private final Path file;
    private long bytes;

    Bounded(InputStream in, Counting packed, Path file) {
      super(in);
      this.packed = packed;
      this.file = file;
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
    }

    @Override
    public int read(byte[] to, int offset, int length) throws IOException {
      int n;
      try {
        n = super.read(to, offset, length);
      } catch (java.io.EOFException e) {
        throw new OribiException(file + " ends in the middle of its compressed data: it was not copied whole.", e);
      } catch (java.util.zip.ZipException e) {
        throw new OribiException(file + " is broken gzip (" + e.getMessage() + "): copy it again.", e);
      }
      bytes += Math.max(0, n);
      if (bytes > HARMLESS && bytes / MAX_RATIO > packed.bytes) {
        throw new OribiException(file + " unpacks to more than " + MAX_RATIO + " times its size, as no text does: unpack it by hand"
            + " if it is what you want.");
      }
      return n;
    }
  }
}
