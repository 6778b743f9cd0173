package dev.oribi.data;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.text.OneLine;
import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.function.Consumer;
import java.util.zip.ZipException;

/**
 * Files to records, one after the other: the elements of a JSON array, the lines of JSONL, the rows of CSV or Parquet, or a plain
 * text as one record. Plain text and CSV are told by their names, Parquet by its first bytes, JSON by its first character. Any but
 * Parquet, which packs its pages itself, may be gzip. No file is held in memory as a whole but a plain text.
 */
final class RecordReader {
  private static final int MAX_DEPTH = 64;
  static final int MAX_LINE = 64 << 20;
  private static final int MAX_TEXT = 512 << 20;
  static final char BYTE_ORDER_MARK = '\uFEFF';

  private static final ObjectMapper ELEMENTS = new JsonMapper(JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(MAX_DEPTH).maxStringLength(MAX_LINE).build())
      .build());
  private static final ObjectMapper LINES = ELEMENTS.copy().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  private final Path file;
  private final Consumer<Record> sink;

  /**
   * One record.
   *
   * @param source the file with a line or an index
   * @param node the record, or null if it has to be read from {@code line}, or is a plain text
   * @param line a line of JSONL, which is parsed by whoever needs it, in parallel; null for other records
   * @param text a plain text, or null
   */
  record Record(String source, JsonNode node, byte[] line, String text) {
    /** The record as JSON; null for a plain text. */
    JsonNode json() {
      return line == null ? node : parseLine(source, line);
    }
  }

  private RecordReader(Path file, Consumer<Record> sink) {
    this.file = file;
    this.sink = sink;
  }

  /** A reader of JSON from unknown files: depth and length are bounded. */
  static ObjectMapper mapper() {
    return LINES;
  }

  /**
   * Gives the records of a file to the sink, in order.
   *
   * @param columns what of a CSV without a heading is what; see {@link CsvRecords}
   */
  static void read(Path file, Map<String, String> columns, Consumer<Record> sink) {
    RecordReader reader = new RecordReader(file, sink);
    if (!Files.isRegularFile(file)) {
      throw new OribiException("There is no data file " + file + ".");
    }
    try {
      reader.dispatch(columns);
    } catch (CharacterCodingException e) {
      throw new OribiException(file + " is not UTF-8 text: save it as UTF-8.", e);
    } catch (EOFException | ZipException e) {
      throw new OribiException(file + " is broken gzip (" + e.getMessage() + "): copy it again.", e);
    } catch (IOException e) {
      throw new OribiException("Cannot read " + file + ": " + e.getMessage() + ".", e);
    }
  }

  private void dispatch(Map<String, String> columns) throws IOException {
    String name = file.getFileName().toString().toLowerCase(Locale.ROOT).replaceFirst("\\.gz$", "");
    if (ParquetRecords.is(file)) {
      ParquetRecords.read(file, sink);
    } else if (name.endsWith(".txt")) {
      readText();
    } else if (name.endsWith(".csv") || name.endsWith(".tsv")) {
      CsvRecords.read(file, name.endsWith(".tsv"), columns, sink);
    } else if (name.endsWith(".parquet")) {
      throw new OribiException(file + " is no Parquet file, although its name says so: copy it again.");
    } else if (firstCharacter() == '[') {
      readArray();
    } else {
      readLines();
    }
  }

  private int firstCharacter() throws IOException {
    try (InputStream in = DataInput.open(file)) {
      in.mark(3);
      if (in.read() != 0xEF || in.read() != 0xBB || in.read() != 0xBF) {
        in.reset();
      }
      int c = in.read();
      while (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
        c = in.read();
      }
      return c;
    }
  }

  private void readText() throws IOException {
    try (InputStream in = DataInput.open(file)) {
      byte[] bytes = in.readNBytes(MAX_TEXT + 1);
      if (bytes.length > MAX_TEXT) {
        throw new OribiException(file + " is larger than " + (MAX_TEXT >> 20) + " MiB: split it into several files.");
      }
      sink.accept(new Record(file.toString(), null, null, decode(bytes)));
    }
  }

  private static String decode(byte[] bytes) throws CharacterCodingException {
    String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    return !text.isEmpty() && text.charAt(0) == BYTE_ORDER_MARK ? text.substring(1) : text;
  }

  /** Characters of the file, without the mark at the beginning; what is not UTF-8 is an error. */
  static Reader characters(Path file) throws IOException {
    InputStream in = DataInput.open(file);
    Reader reader = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT).onUnmappableCharacter(CodingErrorAction.REPORT)));
    try {
      reader.mark(1);
      if (reader.read() != BYTE_ORDER_MARK) {
        reader.reset();
      }
      return reader;
    } catch (IOException e) {
      in.close();
      throw e;
    }
  }

  private void readArray() throws IOException {
    try (Reader reader = characters(file)) {
      readElements(reader);
    }
  }

  private void readElements(Reader reader) throws IOException {
    JsonParser parser = ELEMENTS.createParser(reader);
    try {
      parser.nextToken();
      for (int i = 0; parser.nextToken() != JsonToken.END_ARRAY; i++) {
        sink.accept(new Record(file + "#" + i, ELEMENTS.readTree(parser), null, null));
      }
      if (parser.nextToken() != null) {
        throw new OribiException(file + ":" + parser.currentLocation().getLineNr()
            + ": something follows the end of the JSON array: remove it.");
      }
    } catch (JsonProcessingException e) {
      throw badJson(file + ":" + parser.currentLocation().getLineNr(), e);
    }
  }

  private void readLines() throws IOException {
    byte[] buffer = new byte[1 << 16];
    byte[] line = new byte[1 << 12];
    int length = 0;
    int number = 1;
    try (InputStream in = DataInput.open(file)) {
      for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
        for (int from = 0; from < n; ) {
          int newline = from;
          while (newline < n && buffer[newline] != '\n') {
            newline++;
          }
          int more = newline - from;
          if (more > MAX_LINE - length) {
            throw new OribiException(file + ":" + number + ": the line is longer than " + (MAX_LINE >> 20) + " MiB: shorten it.");
          }
          if (length + more > line.length) {
            line = Arrays.copyOf(line, Math.max(2 * line.length, length + more));
          }
          System.arraycopy(buffer, from, line, length, more);
          length += more;
          from = newline + 1;
          if (newline < n) {
            give(line, length, number++);
            length = 0;
          }
        }
      }
      give(line, length, number);
    }
  }

  private void give(byte[] line, int length, int number) {
    // Blank lines, and a byte order mark alone, are no records.
    boolean marked = length >= 3 && line[0] == (byte) 0xEF && line[1] == (byte) 0xBB && line[2] == (byte) 0xBF;
    for (int i = marked ? 3 : 0; i < length; i++) {
      if (line[i] < 0 || line[i] > ' ') {
        sink.accept(new Record(file + ":" + number, null, Arrays.copyOf(line, length), null));
        return;
      }
    }
  }

  private static JsonNode parseLine(String source, byte[] line) {
    try {
      return LINES.readTree(decode(line));
    } catch (CharacterCodingException e) {
      throw new OribiException(source + ": the line is not UTF-8 text: save the file as UTF-8.", e);
    } catch (JsonProcessingException e) {
      throw badJson(source, e);
    }
  }

  private static OribiException badJson(String source, JsonProcessingException e) {
    return new OribiException(source + ": the row is not valid JSON (" + OneLine.of(Json.reason(e))
        + "): write one JSON object a line, or one JSON array of objects.", e);
  }
}
