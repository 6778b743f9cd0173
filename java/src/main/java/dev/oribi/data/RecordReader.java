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
import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
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
import java.util.Locale;
import java.util.function.Consumer;

/**
 * Files to records: the elements of a JSON array, the lines of JSONL, or a plain text as one record. Whether a file holds
 * an array or lines is read from its first character; only plain text is told by its name, {@code .txt}.
 */
final class RecordReader {
  private static final int MAX_DEPTH = 64;
  private static final int MAX_LINE = 64 << 20;
  private static final int MAX_TEXT = 512 << 20;
  private static final String BYTE_ORDER_MARK = "\uFEFF";

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
   * @param json the record, or null for a plain text
   * @param text the text, or null
   */
  record Record(String source, JsonNode json, String text) {}

  private RecordReader(Path file, Consumer<Record> sink) {
    this.file = file;
    this.sink = sink;
  }

  /** Gives the records of a file to the sink, in order. */
  static void read(Path file, Consumer<Record> sink) {
    RecordReader reader = new RecordReader(file, sink);
    if (!Files.isRegularFile(file)) {
      throw new OribiException("There is no data file " + file + ".");
    }
    try {
      if (file.getFileName().toString().toLowerCase(Locale.ROOT).endsWith(".txt")) {
        reader.readText();
      } else if (reader.firstCharacter() == '[') {
        reader.readArray();
      } else {
        reader.readLines();
      }
    } catch (CharacterCodingException e) {
      throw new OribiException(file + " is not UTF-8 text: save it as UTF-8.", e);
    } catch (IOException e) {
      throw new OribiException("Cannot read " + file + ": " + e.getMessage() + ".", e);
    }
  }

  private InputStream open() throws IOException {
    return new BufferedInputStream(Files.newInputStream(file), 1 << 16);
  }

  private int firstCharacter() throws IOException {
    try (InputStream in = open()) {
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
    long size = Files.size(file);
    if (size > MAX_TEXT) {
      throw new OribiException(file + " is larger than " + (MAX_TEXT >> 20) + " MiB: split it into several files.");
    }
    sink.accept(new Record(file.toString(), null, decode(Files.readAllBytes(file))));
  }

  private static String decode(byte[] bytes) throws CharacterCodingException {
    String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    return text.startsWith(BYTE_ORDER_MARK) ? text.substring(1) : text;
  }

  private void readArray() throws IOException {
    try (InputStream in = open();
        Reader reader = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8.newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT).onUnmappableCharacter(CodingErrorAction.REPORT)))) {
      reader.mark(1);
      if (reader.read() != BYTE_ORDER_MARK.charAt(0)) {
        reader.reset();
      }
      readElements(reader);
    }
  }

  private void readElements(Reader reader) throws IOException {
    JsonParser parser = ELEMENTS.createParser(reader);
    try {
      parser.nextToken();
      for (int i = 0; parser.nextToken() != JsonToken.END_ARRAY; i++) {
        sink.accept(new Record(file + "#" + i, ELEMENTS.readTree(parser), null));
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
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    try (InputStream in = open()) {
      int number = 1;
      for (int c = in.read(); c >= 0; c = in.read()) {
        if (c == '\n') {
          readLine(line.toByteArray(), number++);
          line.reset();
        } else if (line.size() == MAX_LINE) {
          throw new OribiException(file + ":" + number + ": the line is longer than " + (MAX_LINE >> 20) + " MiB: shorten it.");
        } else {
          line.write(c);
        }
      }
      readLine(line.toByteArray(), number);
    }
  }

  private void readLine(byte[] bytes, int number) throws IOException {
    String source = file + ":" + number;
    String text;
    try {
      text = decode(bytes);
    } catch (CharacterCodingException e) {
      throw new OribiException(source + ": the line is not UTF-8 text: save the file as UTF-8.", e);
    }
    if (text.isBlank()) {
      return;
    }
    try {
      sink.accept(new Record(source, LINES.readTree(text), null));
    } catch (JsonProcessingException e) {
      throw badJson(source, e);
    }
  }

  private static OribiException badJson(String source, JsonProcessingException e) {
    // Only the first line of the parser's message: the rest describes its input stream.
    return new OribiException(source + ": the row is not valid JSON (" + e.getOriginalMessage().lines().findFirst().orElse("")
        + "): write one JSON object a line, or one JSON array of objects.", e);
  }
}
