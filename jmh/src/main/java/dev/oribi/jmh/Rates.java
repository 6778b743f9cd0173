package dev.oribi.jmh;

import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;

/** Work done, which JMH divides by the time: {@code GB} is gigabytes a second, {@code GFLOP} GFLOP a second. */
@AuxCounters(AuxCounters.Type.OPERATIONS)
@State(Scope.Thread)
public class Rates {
  public double GB;
  public double GFLOP;

  void add(Bench.Work work) {
    GB += work.bytes() / 1e9;
    GFLOP += work.flops() / 1e9;
  }
}
