package dev.oribi.program;

import java.util.IdentityHashMap;
import java.util.Map;

/**
 * The second copies of weights in 4 bits, as products read them: in the storage of activations, or in FP8. A weight has one of
 * them or none.
 */
public final class Copies {
  public static final Copies NONE = new Copies();

  private final Map<FrozenStack, Buffer> plain = new IdentityHashMap<>();
  private final Map<FrozenStack, Fp8Matrix> fp8 = new IdentityHashMap<>();

  void put(FrozenStack stack, Buffer copy) {
    plain.put(stack, copy);
  }

  void put(FrozenStack stack, Fp8Matrix copy) {
    fp8.put(stack, copy);
  }

  /** Null where there is none. */
  public Buffer plain(FrozenStack stack) {
    return plain.get(stack);
  }

  /** Null where there is none. */
  public Fp8Matrix fp8(FrozenStack stack) {
    return fp8.get(stack);
  }
}
