package dev.oribi.text;

import java.util.Arrays;

/** Which two tokens merge into which, and in which order: a hash table of longs with open addressing. */
final class PairTable {
  static final long NONE = -1;

  /** Key and value side by side: a look-up that misses the cache misses it once. */
  private long[] table;
  private int mask;
  private int used;

  PairTable(int pairs) {
    allocate(Integer.highestOneBit(Math.max(8, pairs)) << 2);
  }

  private void allocate(int places) {
    table = new long[2 * places];
    mask = places - 1;
    Arrays.fill(table, NONE);
  }

  /** A pair that is there already keeps the lower rank. */
  void put(int left, int right, int rank, int merged) {
    long key = key(left, right);
    long value = (long) rank << 32 | merged;
    int at = place(key);
    if (table[at] == NONE) {
      table[at] = key;
      table[at + 1] = value;
      if (++used > mask / 2) {
        grow();
      }
    } else {
      table[at + 1] = Math.min(table[at + 1], value);
    }
  }

  private void grow() {
    long[] old = table;
    allocate(old.length);
    for (int i = 0; i < old.length; i += 2) {
      if (old[i] != NONE) {
        int at = place(old[i]);
        table[at] = old[i];
        table[at + 1] = old[i + 1];
      }
    }
  }

  /** Rank in the upper half, merged token in the lower; or {@link #NONE}. */
  long get(int left, int right) {
    // Where the key is not, its value is not either.
    return table[place(key(left, right)) + 1];
  }

  private static long key(int left, int right) {
    return (long) left << 32 | right;
  }

  private int place(long key) {
    long mixed = key * 0x9E3779B97F4A7C15L;
    int at = (int) (mixed >>> 32) & mask;
    while (table[2 * at] != NONE && table[2 * at] != key) {
      at = at + 1 & mask;
    }
    return 2 * at;
  }
}
