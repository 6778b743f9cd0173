package dev.oribi.device;

import java.util.Arrays;

/** For devices whose work is done when a call returns. */
final class HostClock implements Clock {
  private long[] marks = new long[1024];
  private int count;

  @Override
  public int mark() {
    if (count == marks.length) {
      marks = Arrays.copyOf(marks, 2 * count);
    }
    marks[count] = System.nanoTime();
    return count++;
  }

  @Override
  public long nanos(int from, int to) {
    return marks[to] - marks[from];
  }

  @Override
  public void reset() {
    count = 0;
  }

  @Override
  public void close() {}
}
