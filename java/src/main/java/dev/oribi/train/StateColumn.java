package dev.oribi.train;

import dev.oribi.io.TensorType;
import java.nio.ByteBuffer;

/**
 * State of the optimizer that belongs to no single tensor, such as the scales of blocks that reach from one tensor into the
 * next: a long column, read and written piece by piece, without rounding.
 */
public interface StateColumn {
  /** Its name in a checkpoint. */
  String name();

  TensorType type();

  long elements();

  /** Fills {@code into} from byte {@code at} of the column on. */
  void read(long at, ByteBuffer into);

  /** Replaces what lies from byte {@code at} of the column on by {@code from}. */
  void write(long at, ByteBuffer from);
}
