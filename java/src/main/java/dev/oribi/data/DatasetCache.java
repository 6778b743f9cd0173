package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.time.LocalDate;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;

/**
 * Where a tokenized dataset is kept: a file named by the SHA-256 of all that went into it, the data, the settings, the tokenizer and
 * the chat template. Whatever changes makes another file; one that is not whole is made again.
 */
final class DatasetCache {
  private DatasetCache() {}

  static Path file(List<Path> files, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    MessageDigest sha = RowFileWriter.sha256();
    update(sha, Integer.toString(RowFileWriter.MAGIC), options.rowSettings(), tokenizer == null ? "" : tokenizer.fingerprint(),
        template == null ? "" : template.source(),
        template != null && template.source().contains("strftime_now") ? LocalDate.now().toString() : "");
    for (Path file : files) {
      update(sha, file.toString());
      try (InputStream in = Files.newInputStream(file)) {
        MessageDigest content = RowFileWriter.sha256();
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

  /** What the file holds, or empty if it is not there or not whole. */
  static Optional<RowFile.Contents> read(Path file, long memory) {
    try {
      return Files.isRegularFile(file) ? Optional.ofNullable(RowFile.open(file, memory)) : Optional.empty();
    } catch (IOException e) {
      return Optional.empty();
    }
  }
}
