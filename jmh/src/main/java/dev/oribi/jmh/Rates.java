package dev.oribi.jmh;

import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;

/** Work done, which JMH divides by the time: calls, gigabytes and GFLOP a second. */
@AuxCounters(AuxCounters.Type.OPERATIONS)
@State(Scope.Thread)
public class Rates {
  public double CALLS;
  public double GB;
  public double GFLOP;

  void add(Bench.Work work, int calls) {
    CALLS += calls;
    GB += calls * work.bytes() / 1e9;
    GFLOP += calls * work.flops() / 1e9;
  }
}
