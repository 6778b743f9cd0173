package dev.oribi.io;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The checked header of a safetensors file: {@code {"name": {"dtype", "shape", "data_offsets"}, ..., "__metadata__": {...}}}.
 *
 * @param dataBegin first byte of the data section in the file
 * @param tensors by name, in the order of their data
 * @param metadata free text
 */
record SafetensorsHeader(long dataBegin, Map<String, TensorInfo> tensors, Map<String, String> metadata) {
  static final String METADATA = "__metadata__";

  /** More dimensions than any tensor has; bounds what a hostile shape can allocate. */
  private static final int MAX_RANK = 64;

  /** Parses and checks a header; {@code dataBytes} is what the file holds after it. */
  static SafetensorsHeader parse(Path file, byte[] json, long dataBytes) {
    List<TensorInfo> tensors = new ArrayList<>();
    Map<String, String> metadata = new LinkedHashMap<>();
    try (JsonParser parser = Json.parser(json)) {
      new Reader(file, parser).header(tensors, metadata);
    } catch (IOException e) {
      throw Json.failure(file + " (header)", e);
    }
    tensors.sort(Comparator.comparingLong(TensorInfo::begin).thenComparingLong(TensorInfo::end));
    checkCover(file, tensors, dataBytes);
    Map<String, TensorInfo> byName = new LinkedHashMap<>();
    tensors.forEach(t -> byName.put(t.name(), t));
    return new SafetensorsHeader(SafetensorsFile.PREFIX + json.length,
        Collections.unmodifiableMap(byName), Collections.unmodifiableMap(metadata));
  }

  /** The tensors must lie end to end and fill the data: bytes outside any tensor could be another file in disguise. */
  private static void checkCover(Path file, List<TensorInfo> tensors, long dataBytes) {
    long at = 0;
    for (TensorInfo t : tensors) {
      if (t.begin() != at) {
        throw new OribiException(file + ": tensor " + Json.shorten(t.name()) + " begins at byte " + t.begin() + " of the data, "
            + (t.begin() < at ? "inside the tensor before it" : "after a gap") + " (expected " + at + ").");
      }
      at = t.end();
    }
    if (at != dataBytes) {
      throw new OribiException(file + ": its tensors need " + at + " bytes of data and the file holds " + dataBytes
          + (at > dataBytes ? "; it is truncated, fetch it again." : "; bytes that belong to no tensor are refused."));
    }
  }

  /** Walks the tokens once, so that a header of 100 MB costs no tree. */
  private record Reader(Path file, JsonParser parser) {
    void header(List<TensorInfo> tensors, Map<String, String> metadata) throws IOException {
      expect(parser.nextToken(), JsonToken.START_OBJECT, "the header");
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String name = parser.currentName();
        if (name.equals(METADATA)) {
          metadata(metadata);
        } else {
          tensors.add(tensor(name));
        }
      }
      if (parser.nextToken() != null) {
        throw new OribiException(file + " (header): has more text after its closing brace.");
      }
    }

    private void metadata(Map<String, String> into) throws IOException {
      expect(parser.nextToken(), JsonToken.START_OBJECT, METADATA);
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String key = parser.currentName();
        expect(parser.nextToken(), JsonToken.VALUE_STRING, METADATA + "." + key);
        into.put(key, parser.getText());
      }
    }

    private TensorInfo tensor(String name) throws IOException {
      TensorType type = null;
      long[] shape = null;
      long[] offsets = null;
      expect(parser.nextToken(), JsonToken.START_OBJECT, name);
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String key = parser.currentName();
        JsonToken value = parser.nextToken();
        switch (key) {
          case "dtype" -> type = type(name, value);
          case "shape" -> shape = numbers(name, key, value);
          case "data_offsets" -> offsets = numbers(name, key, value);
          default -> throw wrong(name, "has the unknown key " + Json.shorten(key));
        }
      }
      if (type == null || shape == null || offsets == null || offsets.length != 2) {
        throw wrong(name, "needs dtype, shape and two data_offsets");
      }
      return checked(name, type, shape, offsets);
    }

    private TensorInfo checked(String name, TensorType type, long[] shape, long[] offsets) {
      long bytes;
      try {
        bytes = type.bytes(TensorType.elements(shape));
      } catch (ArithmeticException e) {
        throw wrong(name, "has an impossible shape " + Arrays.toString(shape) + " for " + type);
      }
      if (offsets[1] < offsets[0] || offsets[1] - offsets[0] != bytes) {
        throw wrong(name, "has " + type + Arrays.toString(shape) + ", which is " + bytes + " bytes, but data_offsets "
            + Arrays.toString(offsets));
      }
      return new TensorInfo(name, type, shape, offsets[0], offsets[1], file);
    }

    private TensorType type(String name, JsonToken value) throws IOException {
      expect(value, JsonToken.VALUE_STRING, name + ".dtype");
      String text = parser.getText();
      for (TensorType type : TensorType.values()) {
        if (type.name().equals(text)) {
          return type;
        }
      }
      throw wrong(name, "has the unknown dtype " + Json.shorten(text));
    }

    private long[] numbers(String name, String key, JsonToken value) throws IOException {
      expect(value, JsonToken.START_ARRAY, name + "." + key);
      long[] numbers = new long[MAX_RANK];
      int n = 0;
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        expect(parser.currentToken(), JsonToken.VALUE_NUMBER_INT, name + "." + key);
        boolean fits = parser.getNumberType() != JsonParser.NumberType.BIG_INTEGER && parser.getLongValue() >= 0;
        if (!fits || n == MAX_RANK) {
          throw wrong(name, "has " + (fits ? "too many numbers" : "the impossible number " + Json.shorten(parser.getText())) + " in " + key);
        }
        numbers[n++] = parser.getLongValue();
      }
      return Arrays.copyOf(numbers, n);
    }

    private void expect(JsonToken found, JsonToken expected, String what) {
      if (found != expected) {
        throw new OribiException(file + " (header): expected " + plain(expected) + " for " + Json.shorten(what) + ", found "
            + (found == null ? "the end" : plain(found)) + ".");
      }
    }

    private static String plain(JsonToken token) {
      return switch (token) {
        case START_OBJECT -> "an object";
        case START_ARRAY -> "a list";
        case VALUE_STRING -> "a string";
        case VALUE_NUMBER_INT -> "a whole number";
        default -> token.name().toLowerCase(java.util.Locale.ROOT).replace("value_", "").replace('_', ' ');
      };
    }

    private OribiException wrong(String name, String what) {
      return new OribiException(file + " (header): tensor " + Json.shorten(name) + " " + what + ".");
    }
  }
}
