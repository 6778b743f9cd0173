package dev.oribi.gguf;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgufValue.Type;
import dev.oribi.io.Json;
import dev.oribi.io.MappedFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads the parts of a GGUF header one after the other and believes none of its numbers: a length is compared with what the
 * file still holds before memory is taken for it.
 */
final class GgufReader {
  private static final int BUFFER = 1 << 16;

  /** Longest string; the longest published chat templates have some 20,000 characters. */
  private static final long MAX_STRING = 1 << 24;

  /** Most elements of an array; the largest published vocabularies have some 260,000 tokens and 520,000 merges. */
  private static final long MAX_ARRAY = 1 << 23;

  private final MappedFile file;
  private final ByteBuffer buffer = ByteBuffer.allocate(BUFFER).order(ByteOrder.LITTLE_ENDIAN).limit(0);
  private long bufferEnd;

  GgufReader(MappedFile file) {
    this.file = file;
  }

  /** Bytes read so far. */
  long position() {
    return bufferEnd - buffer.remaining();
  }

  private long left() {
    return file.size() - position();
  }

  /** Brings {@code bytes}, at most 8, into the buffer. */
  private void need(int bytes, String what) {
    if (bytes > left()) {
      throw truncated(what);
    }
    if (buffer.remaining() < bytes) {
      long at = position();
      int length = (int) Math.min(BUFFER, file.size() - at);
      buffer.clear().limit(length);
      file.read(buffer, at);
      buffer.flip();
      bufferEnd = at + length;
    }
  }

  OribiException truncated(String what) {
    return new OribiException(file.file() + ": is truncated, it ends within " + what + "; fetch it again.");
  }

  OribiException broken(String what) {
    return new OribiException(file.file() + ": is not a GGUF file that can be used: " + what + ".");
  }

  int u32(String what) {
    need(4, what);
    return buffer.getInt();
  }

  long i64(String what) {
    need(8, what);
    return buffer.getLong();
  }

  /** A count that is 64 bits in the file; each thing counted takes at least {@code leastBytes}. */
  int count(String what, long max, int leastBytes) {
    long count = i64(what);
    if (count < 0 || count > max) {
      throw broken("it counts " + Long.toUnsignedString(count) + " for " + what + ", and " + max + " are allowed");
    }
    if (count * leastBytes > left()) {
      throw truncated(what);
    }
    return (int) count;
  }

  String string(String what, long max) {
    byte[] bytes = new byte[count("the length of " + what, max, 1)];
    int inBuffer = Math.min(bytes.length, buffer.remaining());
    buffer.get(bytes, 0, inBuffer);
    if (inBuffer < bytes.length) {
      long at = position();
      file.read(ByteBuffer.wrap(bytes, inBuffer, bytes.length - inBuffer), at);
      bufferEnd = at + bytes.length - inBuffer;
      buffer.clear().limit(0);
    }
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw broken(what + " is not UTF-8");
    }
  }

  /** A name that messages may show: without line breaks and the like. */
  String name(String what, long max) {
    String name = string(what, max);
    if (name.chars().anyMatch(Character::isISOControl)) {
      throw broken(what + " has control characters: " + Json.shorten(name));
    }
    return name;
  }

  private Type type(String what) {
    int id = u32(what);
    if (id < 0 || id >= Type.values().length) {
      throw broken(what + " has the type " + Integer.toUnsignedString(id) + ", which does not exist");
    }
    return Type.values()[id];
  }

  GgufValue value(String key) {
    Type type = type(key);
    return type == Type.ARRAY ? array(key) : new GgufValue(type, false, scalar(type, key));
  }

  private Object scalar(Type type, String key) {
    need(type == Type.STRING ? 8 : type.leastBytes(), key);
    return switch (type) {
      case U8 -> (long) (buffer.get() & 0xff);
      case I8 -> (long) buffer.get();
      case U16 -> (long) (buffer.getShort() & 0xffff);
      case I16 -> (long) buffer.getShort();
      case U32 -> buffer.getInt() & 0xffff_ffffL;
      case I32 -> (long) buffer.getInt();
      case U64, I64 -> buffer.getLong();
      case F32 -> buffer.getFloat();
      case F64 -> buffer.getDouble();
      case BOOL -> bool(key);
      case STRING -> string(key, MAX_STRING);
      case ARRAY -> throw broken(key + " is an array of arrays");
    };
  }

  private boolean bool(String key) {
    byte value = buffer.get();
    if (value != 0 && value != 1) {
      throw broken(key + " is neither true nor false but " + value);
    }
    return value == 1;
  }

  private GgufValue array(String key) {
    Type type = type(key);
    if (type == Type.ARRAY) {
      throw broken(key + " is an array of arrays");
    }
    int count = count(key, MAX_ARRAY, type.leastBytes());
    Object values = switch (type) {
      case STRING -> strings(key, count);
      case F32 -> {
        float[] all = new float[count];
        for (int i = 0; i < count; i++) {
          all[i] = (Float) scalar(type, key);
        }
        yield all;
      }
      case F64 -> {
        double[] all = new double[count];
        for (int i = 0; i < count; i++) {
          all[i] = (Double) scalar(type, key);
        }
        yield all;
      }
      case BOOL -> {
        boolean[] all = new boolean[count];
        for (int i = 0; i < count; i++) {
          all[i] = (Boolean) scalar(type, key);
        }
        yield all;
      }
      default -> {
        long[] all = new long[count];
        for (int i = 0; i < count; i++) {
          all[i] = (Long) scalar(type, key);
        }
        yield all;
      }
    };
    return new GgufValue(type, true, values);
  }

  private List<String> strings(String key, int count) {
    List<String> all = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      all.add(string(key, MAX_STRING));
    }
    return List.copyOf(all);
  }
}
