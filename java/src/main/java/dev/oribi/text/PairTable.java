package dev.oribi.text;

import java.util.Arrays;

/** Which two tokens merge into which, and in which order: a hash table of longs with open addressing. */
final class PairTable {
  static final long NONE = -1;

  private long[] keys;
  private long[] values;
  private int mask;
  private int used;

  PairTable(int pairs) {
    int size = Integer.highestOneBit(Math.max(8, pairs)) << 2;
    keys = new long[size];
    values = new long[size];
    mask = size - 1;
    Arrays.fill(keys, NONE);
  }

  /** A pair that is there already keeps the lower rank. */
  void put(int left, int right, int rank, int merged) {
    long key = key(left, right);
    long value = (long) rank << 32 | merged;
    int at = slot(key);
    if (keys[at] == NONE) {
      keys[at] = key;
      values[at] = value;
      if (++used > keys.length / 2) {
        grow();
      }
    } else {
      values[at] = Math.min(values[at], value);
    }
  }

  private void grow() {
    long[] oldKeys = keys;
    long[] oldValues = values;
    keys = new long[2 * oldKeys.length];
    values = new long[keys.length];
    mask = keys.length - 1;
    Arrays.fill(keys, NONE);
    for (int i = 0; i < oldKeys.length; i++) {
      if (oldKeys[i] != NONE) {
        int at = slot(oldKeys[i]);
        keys[at] = oldKeys[i];
        values[at] = oldValues[i];
      }
    }
  }

  /** Rank in the upper half, merged token in the lower; or {@link #NONE}. */
  long get(int left, int right) {
    int at = slot(key(left, right));
    return keys[at] == NONE ? NONE : values[at];
  }

  private static long key(int left, int right) {
    return (long) left << 32 | right;
  }

  private int slot(long key) {
    long mixed = key * 0x9E3779B97F4A7C15L;
    int at = (int) (mixed >>> 32) & mask;
    while (keys[at] != NONE && keys[at] != key) {
      at = at + 1 & mask;
    }
    return at;
  }
}
