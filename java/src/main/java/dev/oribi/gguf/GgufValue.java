package dev.oribi.gguf;

import dev.oribi.OribiException;
import java.util.Arrays;
import java.util.List;

/**
 * One value of a GGUF file's metadata with the type that the file gives it.
 *
 * <p>{@code value} is a {@code Long} for all integers (u64 as its bits), a {@code Float}, a {@code Double}, a {@code Boolean}, a
 * {@code String}, or for arrays a {@code long[]}, {@code float[]}, {@code double[]}, {@code boolean[]} or {@code List<String>}.
 *
 * @param type type of the value, or of the elements of an array
 * @param array whether it is an array
 */
public record GgufValue(Type type, boolean array, Object value) {
  /** The types of the format, in the order of their numbers. */
  public enum Type {
    U8(1),
    I8(1),
    U16(2),
    I16(2),
    U32(4),
    I32(4),
    F32(4),
    BOOL(1),
    STRING(8),
    ARRAY(12),
    U64(8),
    I64(8),
    F64(8);

    private final int leastBytes;

    Type(int leastBytes) {
      this.leastBytes = leastBytes;
    }

    /** Bytes that a value takes at least. */
    int leastBytes() {
      return leastBytes;
    }

    boolean isInteger() {
      return switch (this) {
        case F32, F64, BOOL, STRING, ARRAY -> false;
        default -> true;
      };
    }
  }

  public static GgufValue u32(long value) {
    if (value < 0 || value > 0xffff_ffffL) {
      throw new IllegalArgumentException(value + " is no u32");
    }
    return new GgufValue(Type.U32, false, value);
  }

  public static GgufValue f32(double value) {
    return new GgufValue(Type.F32, false, (float) value);
  }

  public static GgufValue bool(boolean value) {
    return new GgufValue(Type.BOOL, false, value);
  }

  public static GgufValue string(String value) {
    return new GgufValue(Type.STRING, false, value);
  }

  public static GgufValue strings(List<String> values) {
    return new GgufValue(Type.STRING, true, List.copyOf(values));
  }

  public static GgufValue f32s(float[] values) {
    return new GgufValue(Type.F32, true, values.clone());
  }

  public static GgufValue i32s(int[] values) {
    return new GgufValue(Type.I32, true, Arrays.stream(values).asLongStream().toArray());
  }

  /** Its text; {@code where} names it in an error. */
  String text(String where) {
    if (array || type != Type.STRING) {
      throw wrong(where, "a string");
    }
    return (String) value;
  }

  /** An integer from {@code min} to {@code max}. */
  long integer(String where, long min, long max) {
    if (array || !type.isInteger()) {
      throw wrong(where, "an integer");
    }
    long number = (Long) value;
    if (number < min || number > max) {
      throw new OribiException(where + " must be from " + min + " to " + max + ", found " + number + ".");
    }
    return number;
  }

  double number(String where) {
    double number = switch (array ? Type.ARRAY : type) {
      case F32 -> (Float) value;
      case F64 -> (Double) value;
      case STRING, ARRAY, BOOL -> throw wrong(where, "a number");
      default -> (Long) value;
    };
    if (!Double.isFinite(number)) {
      throw new OribiException(where + " is not a finite number.");
    }
    return number;
  }

  boolean flag(String where) {
    if (array || type != Type.BOOL) {
      throw wrong(where, "true or false");
    }
    return (Boolean) value;
  }

  @SuppressWarnings("unchecked")
  List<String> strings(String where) {
    if (!array || type != Type.STRING) {
      throw wrong(where, "a list of strings");
    }
    return (List<String>) value;
  }

  long[] integers(String where) {
    if (!array || !type.isInteger()) {
      throw wrong(where, "a list of integers");
    }
    return ((long[]) value).clone();
  }

  float[] floats(String where) {
    if (!array || type != Type.F32) {
      throw wrong(where, "a list of 32-bit floats");
    }
    return ((float[]) value).clone();
  }

  private OribiException wrong(String where, String expected) {
    return new OribiException(where + " must be " + expected + ", found " + type + (array ? " array." : "."));
  }
}
