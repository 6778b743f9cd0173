package dev.oribi.jmh;

import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.model.Machine;
import java.util.ArrayList;
import java.util.List;

/** Memory with random numbers in it for one benchmark. Closing it frees all of it, and the machine. */
final class Bench implements AutoCloseable {
  /** One call, the fewest bytes that it moves and the operations that it does. */
  record Work(Runnable call, double bytes, double flops) {}

  final Machine machine;
  final Kernels kernels;
  final DType type;

  /** Rows of tokens. */
  final int n;

  private final List<Arena> arenas = new ArrayList<>();
  private final List<Attention> libraries = new ArrayList<>();

  Bench(Machine machine, DType type, int n) {
    this.machine = machine;
    this.kernels = machine.kernels();
    this.type = type;
    this.n = n;
  }

  /** On the device that {@link Sizes#device} names. */
  static Bench open(DType type, int n) {
    return new Bench(Machine.open(Sizes.device(), 0), type, n);
  }

  /** A library that is closed with the memory that it works on. */
  Attention closing(Attention library) {
    libraries.add(library);
    return library;
  }

  /** Issues a call as often as the device needs to be busy, waits, and counts. */
  void run(Work work, Rates rates) {
    int calls = Sizes.current().calls();
    for (int i = 0; i < calls; i++) {
      work.call().run();
    }
    kernels.synchronize();
    rates.add(work, calls);
  }

  /** Normal numbers in the storage type. */
  Mem normals(long count) {
    return normals(count, type);
  }

  Mem normals(long count, DType t) {
    Mem m = raw(count * t.bytes());
    kernels.randomNormal(m, count, 0, 1, 7, arenas.size(), t);
    return m;
  }

  Mem floats(long count, float value) {
    Mem m = raw(4 * count);
    kernels.fill(m, count, value, DType.F32);
    return m;
  }

  Mem ints(int[] values) {
    Mem m = raw(4L * values.length);
    machine.device().write(m, values, values.length);
    return m;
  }

  /** 0, 1, 2 ... below {@code limit}, then from 0 again. */
  Mem counting(int count, int limit) {
    int[] values = new int[count];
    for (int i = 0; i < count; i++) {
      values[i] = i % limit;
    }
    return ints(values);
  }

  /** Zeros; a byte at least, so that a workspace of nothing has an address. */
  Mem raw(long bytes) {
    Arena arena = machine.device().allocate("a benchmark", Math.max(64, bytes));
    arenas.add(arena);
    return arena.all();
  }

  @Override
  public void close() {
    machine.kernels().synchronize();
    libraries.forEach(Attention::close);
    arenas.forEach(Arena::close);
    machine.close();
  }
}
