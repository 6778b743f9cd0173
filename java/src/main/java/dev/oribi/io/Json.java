package dev.oribi.io;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.core.util.Separators;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.TreeSet;

/**
 * JSON from files that nobody vouched for: strict syntax, UTF-8 only, no duplicate keys, bounded depth, bounded size.
 *
 * <p>Errors are {@link OribiException}s that name the file, the line and the column.
 */
public final class Json {
  /** Deepest nesting read; deeper input is refused before it can exhaust the stack. */
  public static final int MAX_DEPTH = 128;

  /** Largest file that {@link #read} takes; real ones (tokenizer.json) stay well below. */
  public static final long MAX_BYTES = 256L << 20;

  static final JsonFactory FACTORY = JsonFactory.builder()
      .streamReadConstraints(StreamReadConstraints.builder()
          .maxNestingDepth(MAX_DEPTH)
          .maxNumberLength(400)
          .maxNameLength(100_000)
          .maxStringLength(64 << 20)
          .build())
      .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
      .build();

  private static final ObjectMapper MAPPER = new ObjectMapper(FACTORY)
      .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
      .enable(DeserializationFeature.FAIL_ON_READING_DUP_TREE_KEY);

  private Json() {}

  /** A new, empty object. */
  public static ObjectNode object() {
    return MAPPER.createObjectNode();
  }

  /** Reads a whole JSON file. */
  public static JsonNode read(Path file) {
    byte[] bytes;
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw new OribiException(file + ": " + size + " bytes are more than the " + MAX_BYTES + " that a JSON file may have.");
      }
      bytes = Files.readAllBytes(file);
    } catch (NoSuchFileException e) {
      throw new OribiException(file + ": no such file.", e);
    } catch (IOException e) {
      throw new OribiException(file + ": cannot be read: " + e.getMessage() + ".", e);
    }
    return parse(bytes, file.toString());
  }

  /** Reads a JSON file that must hold an object. */
  public static ObjectNode readObject(Path file) {
    JsonNode node = read(file);
    if (node instanceof ObjectNode object) {
      return object;
    }
    throw new OribiException(file + ": expected a JSON object, found " + kind(node) + ".");
  }

  /** Parses UTF-8 text; {@code where} names it in errors. */
  public static JsonNode parse(byte[] utf8, String where) {
    try (Reader reader = utf8Reader(utf8)) {
      JsonNode node = MAPPER.readTree(reader);
      if (node == null || node.isMissingNode()) {
        throw new OribiException(where + ": is empty, expected JSON.");
      }
      return node;
    } catch (IOException e) {
      throw failure(where, e);
    }
  }

  /** Parses text; {@code where} names it in errors. */
  public static JsonNode parse(String text, String where) {
    return parse(text.getBytes(StandardCharsets.UTF_8), where);
  }

  /** One line of JSON, keys in the order of the node. */
  public static String compact(JsonNode node) {
    try {
      return MAPPER.writeValueAsString(node);
    } catch (JsonProcessingException e) {
      throw new OribiException("Cannot write JSON: " + e.getOriginalMessage() + ".", e);
    }
  }

  /** Text as Hugging Face's tools write it: keys sorted, indented by two, a line break at the end. */
  public static String pretty(JsonNode node) {
    try {
      return MAPPER.writer(printer()).writeValueAsString(sorted(node)) + "\n";
    } catch (JsonProcessingException e) {
      throw new OribiException("Cannot write JSON: " + e.getOriginalMessage() + ".", e);
    }
  }

  /** Writes {@link #pretty} text to a file, whole or not at all. */
  public static void write(Path file, JsonNode node) {
    AtomicFiles.text(file, pretty(node));
  }

  /** A parser for streaming over text too large for a tree. */
  static JsonParser parser(byte[] utf8) throws IOException {
    return FACTORY.createParser(utf8Reader(utf8));
  }

  /** What a reader of JSON threw, as one line that says where. */
  static OribiException failure(String where, IOException e) {
    if (e instanceof CharacterCodingException) {
      return new OribiException(where + ": is not UTF-8 text.", e);
    }
    if (e instanceof JsonProcessingException json) {
      JsonLocation at = json.getLocation();
      String place = at == null ? "" : ", line " + at.getLineNr() + " column " + at.getColumnNr();
      return new OribiException(where + place + ": is not valid JSON: " + reason(json) + ".", e);
    }
    return new OribiException(where + ": cannot be read: " + e.getMessage() + ".", e);
  }

  /** What a parser says is wrong, without what it says about its own input stream and settings. */
  public static String reason(JsonProcessingException e) {
    return e.getOriginalMessage().lines().findFirst().orElse("").replaceAll("\\s*\\([^\\[(]*\\[Source:[^\\]]*\\]\\)", "");
  }

  /** A name for the type of a node, for errors. */
  public static String kind(JsonNode node) {
    return node.isTextual() ? "the string \"" + shorten(node.textValue()) + "\""
        : node.isContainerNode() ? (node.isArray() ? "a list" : "an object")
        : shorten(node.asText());
  }

  /** Text from a file, made safe to print inside a one-line message. */
  public static String shorten(String text) {
    String line = text.replaceAll("\\p{Cntrl}", "?");
    return line.length() <= 120 ? line : line.substring(0, 120) + "...";
  }

  private static Reader utf8Reader(byte[] utf8) {
    // Jackson guesses the encoding of bytes and accepts UTF-16; a decoder of our own does not.
    return new InputStreamReader(new ByteArrayInputStream(utf8), StandardCharsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT));
  }

  private static DefaultPrettyPrinter printer() {
    DefaultIndenter indenter = new DefaultIndenter("  ", "\n");
    Separators separators = Separators.createDefaultInstance()
        .withObjectFieldValueSpacing(Separators.Spacing.AFTER)
        .withObjectEmptySeparator("")
        .withArrayEmptySeparator("");
    return new DefaultPrettyPrinter(separators).withObjectIndenter(indenter).withArrayIndenter(indenter);
  }

  private static JsonNode sorted(JsonNode node) {
    if (node instanceof ObjectNode object) {
      ObjectNode copy = object();
      TreeSet<String> names = new TreeSet<>();
      object.fieldNames().forEachRemaining(names::add);
      names.forEach(name -> copy.set(name, sorted(object.get(name))));
      return copy;
    }
    if (node instanceof ArrayNode array) {
      ArrayNode copy = MAPPER.createArrayNode();
      array.forEach(item -> copy.add(sorted(item)));
      return copy;
    }
    return node;
  }
}
