package dev.oribi.program;

import dev.oribi.device.Lanes.Lane;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Moves each dequantization beside the large product before it, on a lane of its own: the product is bound by arithmetic, the
 * dequantization by memory. Two weights in 16 bits are then alive at once instead of one.
 */
public final class Prefetch {
  private static final Set<Kind> PRODUCTS =
      EnumSet.of(Kind.LORA_FORWARD, Kind.LORA_MATMUL, Kind.LORA_MATMUL_DX, Kind.MATMUL, Kind.MATMUL_DX, Kind.FP8_MATMUL,
          Kind.FP8_MATMUL_DX, Kind.CROSS_ENTROPY);

  private Prefetch() {}

  /** The same program with its dequantizations ahead; the first has nothing to hide behind. */
  public static Program of(Program program) {
    List<Op> ops = new ArrayList<>();
    int product = -1;
    for (Op op : program.ops()) {
      if (op.kind() == Kind.DEQUANTIZE && product >= 0) {
        Op ahead = op.on(Lane.AHEAD);
        ops.add(product, ahead);
        ops.add(ahead.join());
        product = -1; // one weight ahead, not more
        continue;
      }
      if (PRODUCTS.contains(op.kind())) {
        product = ops.size();
      }
      ops.add(op);
    }
    Program result = new Program(program.name());
    ops.forEach(result::add);
    return result;
  }
}
