package dev.oribi.testing;

import dev.oribi.device.Arena;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.AttentionShape;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.model.Machine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Random;

/** A GPU on which attention is run on random data and read back, with everything around the results guarded. */
public final class AttentionCard implements AutoCloseable {
  private static final int GUARD = 4096;
  private static final byte GUARD_BYTE = 0x5a;
  private static final byte NAN_BYTE = -1; // all ones is NaN in fp32, bf16 and fp16

  /**
   * Sizes, masks and layout of one batch.
   *
   * @param fused q, k and v lie side by side in each row, as a fused projection leaves them
   * @param from rows before this and from {@code to} on hold other data than they otherwise would
   */
  public record Case(
      DType type, int heads, int kvHeads, int headDim, int window, float softcap, boolean fused, int[] lengths, int from,
      int to) {
    public static Case of(DType type, int heads, int kvHeads, int headDim, int... lengths) {
      return new Case(type, heads, kvHeads, headDim, 0, 0, true, lengths, 0, Integer.MAX_VALUE);
    }

    public Case type(DType t) {
      return new Case(t, heads, kvHeads, headDim, window, softcap, fused, lengths, from, to);
    }

    public Case window(int keys) {
      return new Case(type, heads, kvHeads, headDim, keys, softcap, fused, lengths, from, to);
    }

    public Case softcap(float cap) {
      return new Case(type, heads, kvHeads, headDim, window, cap, fused, lengths, from, to);
    }

    public Case separate() {
      return new Case(type, heads, kvHeads, headDim, window, softcap, false, lengths, from, to);
    }

    public Case disturbed(int begin, int end) {
      return new Case(type, heads, kvHeads, headDim, window, softcap, fused, lengths, begin, end);
    }

    int n() {
      return Arrays.stream(lengths).sum();
    }

    int qWidth() {
      return heads * headDim;
    }

    int kWidth() {
      return kvHeads * headDim;
    }

    int width() {
      return qWidth() + 2 * kWidth();
    }

    int[] cuSeqlens() {
      int[] cu = new int[lengths.length + 1];
      for (int i = 0; i < lengths.length; i++) {
        cu[i + 1] = cu[i] + lengths[i];
      }
      return cu;
    }

    float scale() {
      return (float) (1 / Math.sqrt(headDim));
    }

    /** Normal numbers of the type; {@code which}: 0 q, 1 k, 2 v, 3 the gradient of o. */
    double[] data(int which) {
      int width = which == 0 || which == 3 ? qWidth() : kWidth();
      Random random = new Random(31L * width + which);
      Random other = new Random(-7);
      double[] x = new double[n() * width];
      for (int i = 0; i < x.length; i++) {
        double usual = random.nextGaussian();
        int row = i / width;
        x[i] = round(row >= from && row < to ? usual : other.nextGaussian(), type);
      }
      return x;
    }

    @Override
    public String toString() {
      return type + " " + heads + "/" + kvHeads + " heads of " + headDim + (window > 0 ? ", window " + window : "")
          + (softcap > 0 ? ", softcap " + softcap : "") + (fused ? "" : ", separate") + " " + Arrays.toString(lengths);
    }
  }

  /** What the two passes give. */
  public record Result(double[] o, double[] lse, double[] dq, double[] dk, double[] dv) {
    /** Sums in fp32, by approximate exponentials. */
    private static final double LSE_UNIT = 0x1p-20;

    /** A soft-cap goes through the card's tanh, whose error of 2^-11 of the cap averages out over the keys, but not to nothing. */
    private static final double CAPPED_LSE_UNIT = 0x1p-17;

    /** Values are of order one: where the exact ones are all zero, as dq of one token is, sums of such may leave a rounding. */
    private static final double LEAST = 0x1p-11;

    /** Everything in one, to compare runs. */
    public double[] bits() {
      return concat(o, lse, dq, dk, dv);
    }

    /**
     * The policy of accuracy for a case: at most twice the largest error of a plain implementation in the same type, plus one rounding of
     * the largest value.
     */
    public void assertAsGoodAs(Result plain, Result exact, Case c) {
      double unit = c.type == DType.BF16 ? 0x1p-9 : 0x1p-12;
      check("o", o, plain.o, exact.o, unit);
      check("lse", lse, plain.lse, exact.lse, c.softcap > 0 ? CAPPED_LSE_UNIT : LSE_UNIT);
      check("dq", dq, plain.dq, exact.dq, unit);
      check("dk", dk, plain.dk, exact.dk, unit);
      check("dv", dv, plain.dv, exact.dv, unit);
    }

    private static void check(String what, double[] found, double[] plain, double[] exact, double unit) {
      double tolerance = 2 * (distance(plain, exact) + unit * Math.max(largest(exact), LEAST));
      for (int i = 0; i < exact.length; i++) {
        if (!(Math.abs(found[i] - exact[i]) <= tolerance)) {
          throw new AssertionError(
              what + "[" + i + "] of " + exact.length + " is " + found[i] + ", expected " + exact[i] + ", tolerance "
                  + tolerance + "; the largest error is " + distance(found, exact));
        }
      }
    }

    private static double distance(double[] a, double[] b) {
      double most = 0;
      for (int i = 0; i < a.length; i++) {
        most = Math.max(most, Math.abs(a[i] - b[i]));
      }
      return most;
    }

    private static double largest(double[] x) {
      return Arrays.stream(x).map(Math::abs).max().orElse(0);
    }
  }

  /** They take longer than the kernels, and several tests ask for the same. */
  private final Map<String, Result> references = new HashMap<>();

  private final Machine machine;
  private final Kernels kernels;
  private final Device device;

  private AttentionCard(Machine machine) {
    this.machine = machine;
    kernels = machine.kernels();
    device = machine.device();
  }

  /** The GPU under test; null where tests do not run on one. */
  public static AttentionCard open() {
    return TestMachine.isCuda() ? new AttentionCard(TestMachine.open()) : null;
  }

  public Machine machine() {
    return machine;
  }

  public Kernels kernels() {
    return kernels;
  }

  public Device device() {
    return device;
  }

  /** The formulas: in double, or rounded as a plain implementation in the case's type rounds. */
  public Result reference(Case c, boolean exact) {
    return references.computeIfAbsent(c + " " + exact, key -> compute(c, exact));
  }

  private static Result compute(Case c, boolean exact) {
    AttentionReference.Shape shape =
        new AttentionReference.Shape(c.cuSeqlens(), c.heads, c.kvHeads, c.headDim, c.scale(), c.window, c.softcap);
    AttentionReference r =
        exact
            ? new AttentionReference(shape, c.data(0), c.data(1), c.data(2))
            : new AttentionReference(shape, c.data(0), c.data(1), c.data(2), x -> round(x, c.type));
    r.backward(c.data(3));
    return new Result(r.o, r.lse, r.dq, r.dk, r.dv);
  }

  /** A shape to plan for: room for these numbers of rows, sequences and rows of a sequence. */
  public AttentionShape room(Case c, long n, long sequences, long longest) {
    long ldQ = c.fused ? c.width() : c.qWidth();
    long ldK = c.fused ? c.width() : c.kWidth();
    return new AttentionShape(
        n, sequences, longest, c.heads, c.kvHeads, c.headDim, ldQ, ldK, ldK, c.qWidth(), null, null, null, c.scale(),
        c.window, c.softcap, c.type);
  }

  public AttentionShape room(Case c) {
    return room(c, c.n(), c.lengths.length, Arrays.stream(c.lengths).max().orElse(0));
  }

  public Result run(Attention attention, Case c) {
    return run(attention, attention, c, 0);
  }

  /** The forward pass of one library and the backward pass of another; {@code bytes} of workspace, 0: what they ask for. */
  public Result run(Attention forward, Attention backward, Case c, long bytes) {
    try (Call call = new Call(forward, backward, c, Arrays.stream(c.lengths).max().orElse(0), bytes)) {
      call.run();
      return call.result();
    }
  }

  /** Both passes on data that is in the device's memory. */
  public final class Call implements AutoCloseable {
    private final Attention forward;
    private final Attention backward;
    private final Case c;
    private final Arena arena;
    private final Mem qkv;
    private final Mem gradients;
    private final Mem o;
    private final Mem dOut;
    private final Mem lse;
    private final Mem cu;
    private final Mem workspace;
    private final Mem guard;
    private final AttentionShape shape;
    private long used;

    /** With the longest length that may occur, of this or of later sequences. */
    public Call(Attention forward, Attention backward, Case c, long longest, long bytes) {
      this.forward = forward;
      this.backward = backward;
      this.c = c;
      AttentionShape room = room(c, c.n(), c.lengths.length, longest);
      long needed = bytes > 0 ? bytes : Math.max(forward.workspace(room, false), backward.workspace(room, true));
      int n = c.n();
      arena = device.allocate("a test of attention", 4L * n * (c.width() + c.qWidth() + c.heads) + needed + (1 << 20));
      qkv = take(2L * n * c.width());
      gradients = take(2L * n * c.width());
      o = take(2L * n * c.qWidth());
      dOut = take(2L * n * c.qWidth());
      lse = take(4L * n * c.heads);
      cu = take(4L * (c.lengths.length + 1));
      workspace = take(needed);
      guard = arena.all().slice(workspace.address() + needed - arena.all().address(), GUARD);
      shape =
          new AttentionShape(
              room.n(), room.sequences(), longest, c.heads, c.kvHeads, c.headDim, room.ldQ(), room.ldK(), room.ldV(),
              room.ldO(), cu, null, null, room.scale(), c.window, c.softcap, c.type);
      poison();
      fill(workspace, NAN_BYTE);
      fill(guard, GUARD_BYTE);
      sequences(c);
    }

    private Mem take(long bytes) {
      Mem m = arena.all().slice(used, bytes);
      used = (used + bytes + 255) / 256 * 256;
      return m;
    }

    /** Other sequences, and their data, in place of the ones that are there; as many rows and sequences. */
    public void sequences(Case other) {
      device.write(cu, other.cuSeqlens(), other.lengths.length + 1);
      short[] all = new short[other.n() * other.width()];
      for (int which = 0; which < 3; which++) {
        double[] x = other.data(which);
        for (int i = 0; i < x.length; i++) {
          all[place(which, i)] = encode(x[i], c.type);
        }
      }
      write(qkv, all);
      double[] d = other.data(3);
      short[] encoded = new short[d.length];
      for (int i = 0; i < d.length; i++) {
        encoded[i] = encode(d[i], c.type);
      }
      write(dOut, encoded);
    }

    /** Where element i of q, k or v lies among all of them. */
    private int place(int which, int i) {
      int width = which == 0 ? c.qWidth() : c.kWidth();
      int before = which == 0 ? 0 : which == 1 ? c.qWidth() : c.qWidth() + c.kWidth();
      return c.fused ? i / width * c.width() + before + i % width : before * c.n() + i;
    }

    private Mem part(Mem all, int which) {
      long at = 2L * place(which, 0);
      return all.slice(at, all.bytes() - at);
    }

    /** Fills everything that the passes write with NaN. */
    public void poison() {
      fill(gradients, NAN_BYTE);
      fill(o, NAN_BYTE);
      fill(lse, NAN_BYTE);
    }

    /** Issues both passes. */
    public void run() {
      forward.forward(o, lse, part(qkv, 0), part(qkv, 1), part(qkv, 2), workspace, shape);
      backward.backward(
          part(gradients, 0), part(gradients, 1), part(gradients, 2), o, lse, dOut, part(qkv, 0), part(qkv, 1),
          part(qkv, 2), workspace, shape);
    }

    public Result result() {
      kernels.synchronize();
      checkGuard();
      double[] all = read(gradients);
      double[][] d = new double[3][];
      for (int which = 0; which < 3; which++) {
        d[which] = new double[c.n() * (which == 0 ? c.qWidth() : c.kWidth())];
        for (int i = 0; i < d[which].length; i++) {
          d[which][i] = all[place(which, i)];
        }
      }
      float[] sums = new float[c.n() * c.heads];
      device.read(lse, sums, 0, sums.length);
      return new Result(read(o), Compare.widen(sums), d[0], d[1], d[2]);
    }

    private void checkGuard() {
      ByteBuffer bytes = ByteBuffer.allocate(GUARD);
      device.read(guard, bytes);
      for (byte b : bytes.array()) {
        if (b != GUARD_BYTE) {
          throw new AssertionError("written behind the end of the workspace");
        }
      }
    }

    private double[] read(Mem m) {
      ByteBuffer bytes = ByteBuffer.allocate((int) m.bytes()).order(ByteOrder.nativeOrder());
      device.read(m, bytes);
      double[] x = new double[bytes.capacity() / 2];
      for (int i = 0; i < x.length; i++) {
        short bits = bytes.getShort(2 * i);
        x[i] = c.type == DType.BF16 ? Half.fromBf16(bits) : Half.fromF16(bits);
      }
      return x;
    }

    @Override
    public void close() {
      arena.close();
    }
  }

  private void write(Mem m, short[] x) {
    ByteBuffer bytes = ByteBuffer.allocate(2 * x.length).order(ByteOrder.nativeOrder());
    bytes.asShortBuffer().put(x);
    device.write(m, bytes);
  }

  private void fill(Mem m, byte value) {
    byte[] bytes = new byte[(int) m.bytes()];
    Arrays.fill(bytes, value);
    device.write(m, ByteBuffer.wrap(bytes));
  }

  private static short encode(double x, DType t) {
    return t == DType.BF16 ? Half.toBf16((float) x) : Half.toF16((float) x);
  }

  private static double round(double x, DType t) {
    return t == DType.BF16 ? Half.fromBf16(encode(x, t)) : Half.fromF16(encode(x, t));
  }

  private static double[] concat(double[]... parts) {
    return Arrays.stream(parts).flatMapToDouble(Arrays::stream).toArray();
  }

  @Override
  public void close() {
    machine.close();
  }
}
