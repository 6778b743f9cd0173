package dev.oribi.quant;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.TensorInfo;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;

/**
 * The values of a weight that a checkpoint holds in NF4, in fp32 and without a device: {@code nf4[code] · (map[absmax] · absmax2 +
 * offset)}, each operation rounded as the kernels round it.
 */
public final class Nf4Values {
  private static final int BLOCK = 64;
  private static final int NESTED_BLOCK = 256;

  private final Checkpoint files;
  private final String weight;
  private final long[] shape;
  private final float offset;
  private final float[] codes = Nf4Format.nf4();
  private final float[] map = Nf4Format.dynamicMap();

  /** Checks the six tensors. */
  public Nf4Values(Checkpoint files, String weight) {
    this.files = files;
    this.weight = weight;
    this.shape = statedShape(files, weight);
    this.offset = Nf4Format.check(files, weight, shape);
  }

  private static long[] statedShape(Checkpoint files, String weight) {
    TensorInfo state = files.tensor(weight + Nf4Format.STATE);
    ByteBuffer bytes = files.fileOf(state).slice(state, 0, (int) Math.min(state.bytes(), 1 << 14));
    byte[] text = new byte[bytes.remaining()];
    bytes.get(text);
    JsonNode sizes = Json.parse(text, state.file() + ": tensor " + state.name()).path("shape");
    if (sizes.size() != 2 || sizes.get(0).asLong() < 1 || sizes.get(1).asLong() < 1) {
      throw new OribiException(state.file() + ": tensor " + state.name() + " states no shape [out, in].");
    }
    return new long[] {sizes.get(0).asLong(), sizes.get(1).asLong()};
  }

  public long[] shape() {
    return shape.clone();
  }

  /** Fills {@code into} with elements from {@code first} on. */
  public void read(long first, FloatBuffer into) {
    int n = into.remaining();
    long firstBlock = first / BLOCK;
    int blocks = (int) ((first + n + BLOCK - 1) / BLOCK - firstBlock);
    ByteBuffer scales = slice(Nf4Format.ABSMAX, firstBlock, blocks);
    long firstNested = firstBlock / NESTED_BLOCK;
    int nested = (int) ((firstBlock + blocks + NESTED_BLOCK - 1) / NESTED_BLOCK - firstNested);
    ByteBuffer scales2 = slice(Nf4Format.NESTED_ABSMAX, 4 * firstNested, 4 * nested);
    long firstByte = first / 2;
    ByteBuffer packed = slice("", firstByte, (int) ((first + n + 1) / 2 - firstByte));
    for (long i = first; i < first + n; i++) {
      int block = (int) (i / BLOCK - firstBlock);
      float scale = map[scales.get(block) & 0xff] * scales2.getFloat(4 * (int) ((firstBlock + block) / NESTED_BLOCK - firstNested)) + offset;
      int two = packed.get((int) (i / 2 - firstByte));
      into.put(codes[i % 2 == 0 ? two >> 4 & 15 : two & 15] * scale);
    }
  }

  private ByteBuffer slice(String suffix, long begin, int length) {
    TensorInfo t = files.tensor(weight + suffix);
    return files.fileOf(t).slice(t, begin, length);
  }
}
