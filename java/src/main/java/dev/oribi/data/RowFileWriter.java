package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.io.AtomicFiles;
import dev.oribi.io.FileOwner;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;

/**
 * Writes rows into a file as they come, so that a set may be larger than memory: a magic number; for each row a one, its size and its
 * bytes; a zero; the report; the SHA-256 of all of it. The file is made beside its place, and moved there when it is whole.
 */
final class RowFileWriter implements AutoCloseable {
  static final int MAGIC = 0x4F524932;
  static final int FOOTER = 32;
  private static final String PREFIX = "oribi-rows-";

  private final Path beside;
  private final DigestOutputStream digested;
  private final DataOutputStream out;
  private final Places places = new Places();
  private long position;

  /** Where rows are in a file, and how long they are. */
  static final class Places {
    private long[] begins = new long[1024];
    private int[] bytes = new int[1024];
    private int[] lengths = new int[1024];
    private int size;

    void add(long begin, int byteCount, int length) {
      if (size == begins.length) {
        int more = size + (size >> 1);
        begins = Arrays.copyOf(begins, more);
        bytes = Arrays.copyOf(bytes, more);
        lengths = Arrays.copyOf(lengths, more);
      }
      begins[size] = begin;
      bytes[size] = byteCount;
      lengths[size++] = length;
    }

    long[] begins() {
      return Arrays.copyOf(begins, size);
    }

    int[] bytes() {
      return Arrays.copyOf(bytes, size);
    }

    int[] lengths() {
      return Arrays.copyOf(lengths, size);
    }
  }

  private RowFileWriter(Path beside) throws IOException {
    this.beside = beside;
    MessageDigest sha = sha256();
    digested = new DigestOutputStream(new BufferedOutputStream(Files.newOutputStream(beside), 1 << 16), sha);
    out = new DataOutputStream(digested);
    out.writeInt(MAGIC);
    position = Integer.BYTES;
  }

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /**
   * A file in a folder, which is made if it is missing; it goes when the program ends, unless it is moved to a place of its
   * own. One that a killed program left goes now.
   */
  static RowFileWriter in(Path folder) {
    try {
      Files.createDirectories(folder);
      AtomicFiles.deleteLeftovers(folder, PREFIX);
      Path beside = Files.createTempFile(folder, PREFIX + FileOwner.SELF + "-", ".tmp");
      beside.toFile().deleteOnExit();
      return new RowFileWriter(beside);
    } catch (IOException e) {
      throw failed(folder, e);
    }
  }

  private static OribiException failed(Path folder, IOException e) {
    return new OribiException("Cannot write tokenized data to " + folder + ": " + e.getMessage()
        + "; free some space or choose another folder with --cache-dir.", e);
  }

  void add(Row row) {
    byte[] bytes = RowBytes.write(row);
    try {
      out.writeBoolean(true);
      out.writeInt(bytes.length);
      out.write(bytes);
    } catch (IOException e) {
      throw failed(beside.getParent(), e);
    }
    position += 1 + Integer.BYTES;
    places.add(position, bytes.length, row.length());
    position += bytes.length;
  }

  /** Ends the file. Its rows may be read where it is, or where it is moved to: {@code target}, which may be null. */
  RowFile finish(Report report, Path target) {
    try {
      out.writeBoolean(false);
      RowBytes.writeReport(out, report);
      out.flush();
      digested.on(false);
      out.write(digested.getMessageDigest().digest());
      out.close();
      if (target != null) {
        Files.move(beside, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      }
      return new RowFile(target != null ? target : beside, places);
    } catch (IOException e) {
      throw failed(beside.getParent(), e);
    }
  }

  /** Deletes a file that was not finished. */
  @Override
  public void close() {
    try (OutputStream closing = out) {
      Files.deleteIfExists(beside);
    } catch (IOException e) {
      // The error that led here says what is wrong with this folder.
    }
  }
}
