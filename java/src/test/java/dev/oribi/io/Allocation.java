package dev.oribi.io;

import java.lang.management.ManagementFactory;

/** Bytes of heap that the current thread has asked for so far. */
final class Allocation {
  private Allocation() {}

  static long byThisThread() {
    var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
    return threads.getThreadAllocatedBytes(Thread.currentThread().getId());
  }
}
