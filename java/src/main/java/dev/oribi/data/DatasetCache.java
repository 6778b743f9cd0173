package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;

/**
 * A tokenized dataset in one file, whose name is the SHA-256 of all that went into it: the data, the settings, the
 * tokenizer and the chat template. The file ends with a SHA-256 of itself; a file that is not whole is made again.
 */
final class DatasetCache {
  private static final int MAGIC = 0x4F524931;

  /**
   * What a file holds.
   *
   * @param rowsRead rows read, those that were dropped included
   */
  record Entry(int rowsRead, List<Row> rows) {}

  private DatasetCache() {}

  static Path file(List<Path> files, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    MessageDigest sha = sha256();
    update(sha, Integer.toString(MAGIC), Integer.toString(options.maxSeqLength()), Integer.toString(options.vocabSize()),
        tokenizer == null ? "" : tokenizer.fingerprint(), template == null ? "" : template.source(),
        template != null && template.source().contains("strftime_now") ? LocalDate.now().toString() : "");
    for (Path file : files) {
      update(sha, file.toString());
      try (InputStream in = Files.newInputStream(file)) {
        MessageDigest content = sha256();
        in.transferTo(new DigestOutputStream(OutputStream.nullOutputStream(), content));
        sha.update(content.digest());
      } catch (IOException e) {
        throw new OribiException("Cannot read " + file + ": " + e.getMessage() + ".", e);
      }
    }
    return options.cacheDirectory().resolve(HexFormat.of().formatHex(sha.digest()) + ".rows");
  }

  private static void update(MessageDigest sha, String... parts) {
    for (String part : parts) {
      byte[] bytes = part.getBytes(StandardCharsets.UTF_8);
      sha.update((bytes.length + ":").getBytes(StandardCharsets.UTF_8));
      sha.update(bytes);
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /** The entry, or empty if the file is not there or not whole. */
  static Optional<Entry> read(Path file) {
    if (!Files.isRegularFile(file)) {
      return Optional.empty();
    }
    MessageDigest sha = sha256();
    try (InputStream raw = new BufferedInputStream(Files.newInputStream(file), 1 << 16);
        DigestInputStream digested = new DigestInputStream(raw, sha);
        DataInputStream in = new DataInputStream(digested)) {
      long ints = Files.size(file) / Integer.BYTES;
      if (in.readInt() != MAGIC) {
        return Optional.empty();
      }
      Entry entry = readRows(in, ints);
      byte[] expected = sha.digest();
      digested.on(false);
      return MessageDigest.isEqual(expected, in.readAllBytes()) ? Optional.of(entry) : Optional.empty();
    } catch (IOException e) {
      return Optional.empty();
    }
  }

  private static Entry readRows(DataInputStream in, long ints) throws IOException {
    int rowsRead = in.readInt();
    int count = bounded(in.readInt(), ints);
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      String source = in.readUTF();
      boolean truncated = in.readBoolean();
      int[] ids = new int[bounded(in.readInt(), ints)];
      readInts(in, ids);
      int[] labels = ids;
      if (in.readBoolean()) {
        labels = new int[ids.length];
        readInts(in, labels);
      }
      rows.add(new Row(ids, labels, source, truncated));
    }
    return new Entry(rowsRead, rows);
  }

  /** A count from the file, which cannot be more than the file has room for. */
  private static int bounded(int count, long ints) throws IOException {
    if (count < 0 || count > ints) {
      throw new IOException("broken count");
    }
    return count;
  }

  private static void readInts(DataInputStream in, int[] values) throws IOException {
    for (int i = 0; i < values.length; i++) {
      values[i] = in.readInt();
    }
  }

  /** Writes beside the file and renames, so that no reader ever sees half of it. */
  static void write(Path file, Entry entry) {
    Path beside = null;
    try {
      Files.createDirectories(file.getParent());
      beside = Files.createTempFile(file.getParent(), "rows", ".tmp");
      writeAll(beside, entry);
      Files.move(beside, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      delete(beside);
      throw new OribiException("Cannot write the cache of tokenized data to " + file.getParent() + ": " + e.getMessage()
          + "; free some space or choose another folder.", e);
    }
  }

  private static void delete(Path beside) {
    try {
      if (beside != null) {
        Files.deleteIfExists(beside);
      }
    } catch (IOException e) {
      // The first error, which the caller reports, says what is wrong with this folder.
    }
  }

  private static void writeAll(Path file, Entry entry) throws IOException {
    MessageDigest sha = sha256();
    try (OutputStream raw = new BufferedOutputStream(Files.newOutputStream(file), 1 << 16);
        DigestOutputStream digested = new DigestOutputStream(raw, sha);
        DataOutputStream out = new DataOutputStream(digested)) {
      out.writeInt(MAGIC);
      out.writeInt(entry.rowsRead());
      out.writeInt(entry.rows().size());
      for (Row row : entry.rows()) {
        out.writeUTF(row.source());
        out.writeBoolean(row.truncated());
        out.writeInt(row.length());
        writeInts(out, row.inputIds());
        boolean masked = row.labels() != row.inputIds();
        out.writeBoolean(masked);
        if (masked) {
          writeInts(out, row.labels());
        }
      }
      out.flush();
      digested.on(false);
      out.write(sha.digest());
    }
  }

  private static void writeInts(DataOutputStream out, int[] values) throws IOException {
    for (int value : values) {
      out.writeInt(value);
    }
  }
}
