package dev.oribi.quant;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;

/**
 * The tensors of a matrix W[out, in] in NF4 with double quantization, as bitsandbytes names and sizes them. With {@code
 * count = out * in}, a multiple of 64:
 *
 * <pre>
 * X.weight                                  U8  [count/2, 1]            two elements a byte, the first in the high bits
 * X.weight.absmax                           U8  [count/64]              code of each block's scale, in nested_quant_map
 * X.weight.quant_map                        F32 [16]                    the NF4 values
 * X.weight.nested_absmax                    F32 [ceil(count/64/256)]    scales of the scales
 * X.weight.nested_quant_map                 F32 [256]                   the signed dynamic 8-bit values
 * X.weight.quant_state.bitsandbytes__nf4    U8  [..]                    JSON: sizes, and the offset of the scales
 * </pre>
 *
 * Kernels have both tables built in, so a file with other tables cannot be computed with and is refused.
 */
public final class Nf4Format {
  /** Elements that share a scale. */
  public static final int BLOCK = 64;

  /** Scales that share a scale. */
  public static final int NESTED_BLOCK = 256;

  public static final String ABSMAX = ".absmax";
  public static final String QUANT_MAP = ".quant_map";
  public static final String NESTED_ABSMAX = ".nested_absmax";
  public static final String NESTED_QUANT_MAP = ".nested_quant_map";
  public static final String STATE = ".quant_state.bitsandbytes__nf4";

  /** What stands behind a weight's name in the names of the tensors beside it. */
  public static final List<String> SUFFIXES = List.of(ABSMAX, QUANT_MAP, NESTED_ABSMAX, NESTED_QUANT_MAP, STATE);

  private static final String FP4_STATE = ".quant_state.bitsandbytes__fp4";

  /** A state is some 200 bytes; this bounds what is read of one that nobody vouched for. */
  private static final int MAX_STATE = 1 << 14;

  /** The tables were computed in fp32 by whoever wrote the file, so that their last bit may differ. */
  private static final float TABLE_TOLERANCE = 1e-6f;

  private static final float[] NF4 = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f
  };

  private Nf4Format() {}

  /** The 16 values of NF4, ascending. */
  public static float[] nf4() {
    return NF4.clone();
  }

  /**
   * The 256 values of the signed dynamic 8-bit type, ascending: for i = 0..6 the midpoints of 2^i equal parts of [0.1, 1],
   * times 10^(i-6), with both signs; and 0 and 1.
   */
  public static float[] dynamicMap() {
    float[] values = new float[256];
    int n = 0;
    for (int i = 0; i < 7; i++) {
      int parts = 1 << i;
      for (int k = 0; k < parts; k++) {
        double middle = 0.1 + 0.9 * (k + 0.5) / parts;
        float value = (float) (middle * Math.pow(10, i - 6));
        values[n++] = value;
        values[n++] = -value;
      }
    }
    values[n++] = 0;
    values[n] = 1;
    Arrays.sort(values);
    return values;
  }

  /** Whether the checkpoint holds this weight in 4 bits. */
  public static boolean isStored(Checkpoint files, String weight) {
    return files.tensors().containsKey(weight + ABSMAX) || files.tensors().containsKey(weight + STATE)
        || files.tensors().containsKey(weight + FP4_STATE);
  }

  public static long nestedCount(long count) {
    return (count / BLOCK + NESTED_BLOCK - 1) / NESTED_BLOCK;
  }

  // ---------------------------------------------------------------------------------------------------------- check

  /**
   * Checks the six tensors of a weight and returns the offset of its scales.
   *
   * @param shape [out, in], as config.json asks for
   * @throws OribiException that names the tensor and what is wrong with it
   */
  public static float check(Checkpoint files, String weight, long[] shape) {
    if (files.tensors().containsKey(weight + FP4_STATE)) {
      throw new OribiException(files.tensor(weight + FP4_STATE).file() + ": " + weight + " is in FP4, which is not supported;"
          + " NF4 is.");
    }
    long count = shape[0] * shape[1];
    if (count % BLOCK != 0) {
      throw new OribiException(files.describe() + ": " + weight + " " + Arrays.toString(shape) + " is in 4 bits with a last"
          + " block that is not full, which is not supported: out * in must be a multiple of " + BLOCK + ".");
    }
    checkCodes(files.tensor(weight), count, shape);
    TensorInfo absmax = files.tensor(weight + ABSMAX);
    if (absmax.type() == TensorType.F32) {
      throw new OribiException(absmax.file() + ": " + weight + " is in 4 bits without double quantization, which is not"
          + " supported; make the checkpoint with bnb_4bit_use_double_quant true, or give the 16-bit model.");
    }
    expect(absmax, TensorType.U8, count / BLOCK);
    expect(files.tensor(weight + NESTED_ABSMAX), TensorType.F32, nestedCount(count));
    checkTable(files, weight + QUANT_MAP, NF4);
    checkTable(files, weight + NESTED_QUANT_MAP, dynamicMap());
    return checkState(files, files.tensor(weight + STATE), shape);
  }

  /** The bytes may be declared as another type (bnb_4bit_quant_storage); what counts is that they are as many. */
  private static void checkCodes(TensorInfo codes, long count, long[] shape) {
    if (codes.bytes() != count / 2) {
      throw new OribiException(codes.file() + ": tensor " + codes.name() + " has " + codes.bytes() + " bytes; "
          + Arrays.toString(shape) + " in 4 bits takes " + count / 2 + ".");
    }
  }

  private static void expect(TensorInfo t, TensorType type, long elements) {
    if (t.type() != type || t.elements() != elements) {
      throw new OribiException(t.file() + ": tensor " + t.name() + " is " + t.type() + Arrays.toString(t.shape())
          + "; expected " + type + "[" + elements + "].");
    }
  }

  private static void checkTable(Checkpoint files, String name, float[] expected) {
    TensorInfo t = files.tensor(name);
    expect(t, TensorType.F32, expected.length);
    FloatBuffer found = FloatBuffer.allocate(expected.length);
    files.readFloats(t, 0, found);
    for (int i = 0; i < expected.length; i++) {
      if (!(Math.abs(found.get(i) - expected[i]) <= TABLE_TOLERANCE * Math.abs(expected[i]))) {
        throw new OribiException(t.file() + ": tensor " + name + " has " + found.get(i) + " at " + i + " where bitsandbytes has "
            + expected[i] + "; weights coded with another table are not supported.");
      }
    }
  }

  private static float checkState(Checkpoint files, TensorInfo t, long[] shape) {
    if (t.type() != TensorType.U8 || t.bytes() > MAX_STATE) {
      throw new OribiException(t.file() + ": tensor " + t.name() + " is " + t.type() + Arrays.toString(t.shape())
          + "; expected JSON of at most " + MAX_STATE + " bytes as U8.");
    }
    ByteBuffer bytes = files.fileOf(t).slice(t, 0, (int) t.bytes());
    byte[] text = new byte[bytes.remaining()];
    bytes.get(text);
    String where = t.file() + ": tensor " + t.name();
    JsonNode state = Json.parse(text, where);
    expectValue(state, "quant_type", "\"nf4\"", where);
    expectValue(state, "blocksize", Integer.toString(BLOCK), where);
    expectValue(state, "nested_blocksize", Integer.toString(NESTED_BLOCK), where);
    expectValue(state, "shape", "[" + shape[0] + "," + shape[1] + "]", where);
    JsonNode offset = state.path("nested_offset");
    if (!offset.isNumber() || !Float.isFinite(offset.floatValue())) {
      throw new OribiException(where + ": nested_offset must be a number, found " + Json.kind(offset) + ".");
    }
    return offset.floatValue();
  }

  private static void expectValue(JsonNode state, String key, String expected, String where) {
    String found = state.path(key).isMissingNode() ? "missing" : Json.compact(state.get(key));
    if (!found.equals(expected)) {
      String shown = found.length() <= 80 ? found : found.substring(0, 80) + "...";
      throw new OribiException(where + ": " + key + " is " + shown + "; only " + expected + " is supported here.");
    }
  }

  // ---------------------------------------------------------------------------------------------------------- write

  /**
   * The JSON of {@link #STATE}.
   *
   * @param dtype type to which bitsandbytes dequantizes, such as {@code bfloat16}
   */
  public static byte[] state(long[] shape, String dtype, float offset) {
    ObjectNode state = Json.object().put("quant_type", "nf4").put("blocksize", BLOCK).put("dtype", dtype);
    ArrayNode sizes = state.putArray("shape");
    Arrays.stream(shape).forEach(sizes::add);
    state.put("nested_blocksize", NESTED_BLOCK).put("nested_dtype", "float32").put("nested_offset", (double) offset);
    return Json.compact(state).getBytes(StandardCharsets.UTF_8);
  }
}
