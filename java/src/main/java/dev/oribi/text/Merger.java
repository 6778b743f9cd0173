package dev.oribi.text;

import java.util.Arrays;
import java.util.PriorityQueue;

/**
 * Byte-pair encoding of one word: the pair of the lowest rank merges first, the leftmost of equal ones, until none is left.
 * Short words by search, O(n²); longer ones with a queue of pairs, O(n log n), so that a word of megabytes takes no longer than
 * its length. Not safe for use by several threads.
 */
final class Merger {
  /** Up to here searching was as quick as the queue. */
  private static final int SHORT = 40;

  private final PairTable pairs;
  int[] ids = new int[64];
  /** Bytes that each token stands for. */
  int[] bytes = new int[64];
  int size;

  private int[] next = new int[0];
  private int[] before = new int[0];

  Merger(PairTable pairs) {
    this.pairs = pairs;
  }

  void clear() {
    size = 0;
  }

  void add(int id, int byteCount) {
    if (size == ids.length) {
      ids = Arrays.copyOf(ids, 2 * size);
      bytes = Arrays.copyOf(bytes, 2 * size);
    }
    ids[size] = id;
    bytes[size++] = byteCount;
  }

  void merge() {
    if (size <= SHORT) {
      search();
    } else {
      queue();
    }
  }

  private void search() {
    while (size > 1) {
      long best = Long.MAX_VALUE;
      int at = -1;
      for (int i = 0; i + 1 < size; i++) {
        long pair = pairs.get(ids[i], ids[i + 1]);
        if (pair != PairTable.NONE && pair >>> 32 < best >>> 32) {
          best = pair;
          at = i;
        }
      }
      if (at < 0) {
        return;
      }
      ids[at] = (int) best;
      bytes[at] += bytes[at + 1];
      int rest = size - at - 2;
      System.arraycopy(ids, at + 2, ids, at + 1, rest);
      System.arraycopy(bytes, at + 2, bytes, at + 1, rest);
      size--;
    }
  }

  private record Candidate(int rank, int at, int left, int right, int merged) implements Comparable<Candidate> {
    @Override
    public int compareTo(Candidate o) {
      return rank != o.rank ? Integer.compare(rank, o.rank) : Integer.compare(at, o.at);
    }
  }

  private void queue() {
    next = new int[size];
    before = new int[size];
    PriorityQueue<Candidate> candidates = new PriorityQueue<>();
    for (int i = 0; i < size; i++) {
      next[i] = i + 1 < size ? i + 1 : -1;
      before[i] = i - 1;
    }
    for (int i = 0; i + 1 < size; i++) {
      offer(candidates, i);
    }
    for (Candidate c = candidates.poll(); c != null; c = candidates.poll()) {
      int right = bytes[c.at] > 0 ? next[c.at] : -1;
      // A candidate is stale once one of its two tokens has merged with another.
      if (right < 0 || ids[c.at] != c.left || ids[right] != c.right) {
        continue;
      }
      ids[c.at] = c.merged;
      bytes[c.at] += bytes[right];
      bytes[right] = 0;
      next[c.at] = next[right];
      if (next[right] >= 0) {
        before[next[right]] = c.at;
      }
      if (before[c.at] >= 0) {
        offer(candidates, before[c.at]);
      }
      offer(candidates, c.at);
    }
    compact();
  }

  private void offer(PriorityQueue<Candidate> candidates, int at) {
    int right = next[at];
    long pair = right < 0 ? PairTable.NONE : pairs.get(ids[at], ids[right]);
    if (pair != PairTable.NONE) {
      candidates.add(new Candidate((int) (pair >>> 32), at, ids[at], ids[right], (int) pair));
    }
  }

  private void compact() {
    int kept = 0;
    for (int i = 0; i >= 0; i = next[i]) {
      ids[kept] = ids[i];
      bytes[kept++] = bytes[i];
    }
    size = kept;
  }
}
