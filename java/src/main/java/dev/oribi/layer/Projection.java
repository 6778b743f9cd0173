package dev.oribi.layer;

import dev.oribi.program.FrozenStack;

/** What is done to the weights of all projections of a layer, of one matrix or of one for each expert. */
public interface Projection {
  String name();

  /** Its weight, if any of it is in 4 bits; else null. */
  FrozenStack in4Bits();
}
