package dev.oribi.layer;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Fp8;
import dev.oribi.kernel.Int8;
import dev.oribi.kernel.Nf4;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Fp8Matrix;
import dev.oribi.program.FrozenStack;
import dev.oribi.program.GgmlMatrix;
import dev.oribi.program.Int8Matrix;
import dev.oribi.program.Nf4Matrix;
import dev.oribi.program.View;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;

/**
 * The one table of a model's tensors: names, shapes, where each lies, whether it learns. Checkpoints, the optimizer and the
 * tests walk this table.
 *
 * <p>Frozen tensors have a buffer of their own in the storage type, or several in 4 bits ({@link
 * Nf4Matrix}), 8 ({@link Int8Matrix}) or FP8 ({@link Fp8Matrix}). All that learns lies in two {@link Group}s, with and
 * without weight decay: fp32 values, gradients and moments side by side at equal offsets, so that one launch updates a
 * group; with 16-bit storage also a 16-bit copy, which is what the products read.
 */
public final class Parameters {
  /** Elements to which a tensor's place in a group is rounded up: 64 bytes in 16-bit storage. */
  private static final long ALIGNMENT = 32;

  /** What learns together: columns of equal length. {@code value16} is null in fp32. */
  public record Group(String name, boolean decay, Buffer value, Buffer value16, Buffer grad, Buffer m, Buffer v) {
    public long count() {
      return value.rows();
    }
  }

  /**
   * One tensor of the checkpoint.
   *
   * @param value in the type that the products read; null if it is in 4 or 8 bits, FP8 or blocks
   * @param nf4 where its parts lie; null unless it is in 4 bits
   * @param int8 where its parts lie; null unless it is in 8 bits
   * @param fp8 the rows of the stack that it is part of; null unless it is in FP8
   * @param ggml where its blocks lie; null unless it is as a GGUF file holds it
   * @param group where its fp32 value, gradient and moments lie; null if it is frozen
   * @param offset elements from the beginning of the group
   * @param order how it lies in a file; null where it lies there as here
   */
  public record Tensor(
      String name, long[] shape, View value, Nf4Matrix nf4, Int8Matrix int8, Fp8Rows fp8, GgmlMatrix ggml, Group group, long offset,
      ExpertsLast order) {
    private Tensor(String name, long[] shape, View value, Nf4Matrix nf4, Int8Matrix int8, Fp8Rows fp8, Group group, long offset) {
      this(name, shape, value, nf4, int8, fp8, null, group, offset, null);
    }

    public boolean trainable() {
      return group != null;
    }

    public long elements() {
      if (value != null) {
        return value.elements();
      }
      if (ggml != null) {
        return ggml.count();
      }
      return nf4 != null ? nf4.count() : int8 != null ? int8.rows() * int8.cols() : fp8.rows * fp8.stack.cols();
    }

    /** What holds its value, but for the fp32 original of what learns. */
    List<Buffer> buffers() {
      if (value != null) {
        return List.of(value.buffer());
      }
      if (ggml != null) {
        return List.of(ggml.blocks());
      }
      return nf4 != null ? nf4.buffers() : int8 != null ? int8.buffers() : fp8.stack.buffers();
    }

    /** The fp32 value, gradient or moment of a trainable tensor. */
    public View part(Buffer column) {
      return View.matrix(column, offset, value.rows(), value.cols());
    }
  }

  /** One tensor's rows of a stack in FP8, which is rounded as a whole: a scale of its columns is that of all tensors in it. */
  public record Fp8Rows(Fp8Matrix stack, long first, long rows) {
    public boolean last() {
      return first + rows == stack.rows();
    }
  }

  /**
   * One or several tensors stacked by rows, as a layer uses them.
   *
   * @param value null where {@code frozen}, {@code int8} or {@code inFp8} holds it
   * @param grad null if frozen
   * @param frozen null unless something of it is in 4 bits
   * @param int8 null unless it is in 8 bits
   * @param inFp8 null unless it is in FP8 and nothing else
   */
  public record Param(View value, View grad, FrozenStack frozen, Int8Matrix int8, Fp8Matrix inFp8) {
    public Param(View value, View grad) {
      this(value, grad, null, null, null);
    }

    /** What products in FP8 read: the weight itself, or the copy that the plan keeps of one in 4 bits; null if neither is there. */
    public Fp8Matrix fp8(Emit e) {
      return inFp8 != null ? inFp8 : frozen != null ? e.copies().fp8(frozen) : null;
    }

    public boolean trainable() {
      return grad != null;
    }

    public long rows() {
      return value != null ? value.rows() : frozen != null ? frozen.rows() : int8 != null ? int8.rows() : inFp8.rows();
    }

    public long cols() {
      return value != null ? value.cols() : frozen != null ? frozen.cols() : int8 != null ? int8.cols() : inFp8.cols();
    }

    public Param rows(long begin, long count) {
      return new Param(value.rows(begin, count), grad == null ? null : grad.rows(begin, count));
    }
  }

  private final DType type;
  private final List<Tensor> tensors = new ArrayList<>();
  private final Group decay;
  private final Group noDecay;

  public Parameters(DType type) {
    this.type = type;
    this.decay = group("decay", true);
    this.noDecay = group("no_decay", false);
  }

  private Group group(String name, boolean decays) {
    return new Group(
        name,
        decays,
        column("trainable." + name, Lifetime.TRAINABLE, DType.F32),
        type == DType.F32 ? null : column("trainable16." + name, Lifetime.TRAINABLE, type),
        column("gradient." + name, Lifetime.GRADIENT, DType.F32),
        column("moment1." + name, Lifetime.OPTIMIZER, DType.F32),
        column("moment2." + name, Lifetime.OPTIMIZER, DType.F32));
  }

  private static Buffer column(String name, Lifetime lifetime, DType t) {
    return new Buffer(name, lifetime, t, Rows.FIXED, 0, 1);
  }

  public DType type() {
    return type;
  }

  /** A tensor of its own. A vector has {@code rows} or {@code cols} 1, and one dimension. */
  public Param add(String name, long rows, long cols, boolean vector, boolean trainable, boolean decays) {
    return stack(List.of(name), new long[] {rows}, cols, vector, trainable, decays);
  }

  /** A frozen vector in fp32, whatever the storage type. */
  public Param addF32(String name, long cols) {
    View value = View.of(new Buffer(name, Lifetime.WEIGHT, DType.F32, Rows.FIXED, 1, cols));
    tensors.add(new Tensor(name, new long[] {cols}, value, null, null, null, null, 0));
    return new Param(value, null);
  }

  /** The B of an adapter on fused experts, which learns: [experts·out, rank] here, and in a file in the order of {@link ExpertsLast}. */
  public Param addExpertsLast(String name, int experts, long out, int rank) {
    Param p = stack(List.of(name), new long[] {experts * out}, rank, false, true, true);
    Tensor t = tensors.remove(tensors.size() - 1);
    tensors.add(new Tensor(name, new long[] {out, (long) rank * experts}, t.value, null, null, null, null, t.group, t.offset,
        new ExpertsLast(experts, rank)));
    return p;
  }

  /** Several tensors [rows_i, cols] that lie one after the other and are used as one [sum of rows, cols]. */
  public Param stack(
      List<String> names, long[] rows, long cols, boolean vector, boolean trainable, boolean decays) {
    long total = 0;
    for (long r : rows) {
      total += r;
    }
    Group group = !trainable ? null : decays ? decay : noDecay;
    long base = trainable ? reserve(group, total * cols) : 0;
    View value;
    if (trainable) {
      value = View.matrix(group.value16 == null ? group.value : group.value16, base, total, cols);
    } else {
      value = plain(label(names), total, cols);
    }
    long at = 0;
    for (int i = 0; i < names.size(); i++) {
      long[] shape = vector ? new long[] {rows[i] * cols} : new long[] {rows[i], cols};
      tensors.add(new Tensor(names.get(i), shape, value.rows(at, rows[i]), null, null, null, group, base + at * cols));
      at += rows[i];
    }
    return new Param(value, trainable ? View.matrix(group.grad, base, total, cols) : null);
  }

  /**
   * Several frozen tensors [rows_i, cols] of which some are in 4 bits, used as one [sum of rows, cols].
   *
   * @param quantized for each, whether it is in 4 bits
   */
  public Param stackIn4Bits(List<String> names, long[] rows, long cols, boolean[] quantized) {
    List<String> labels = new ArrayList<>();
    List<Long> rowsIn4Bits = new ArrayList<>();
    long total = 0;
    for (int i = 0; i < rows.length; i++) {
      total += rows[i];
      if (quantized[i]) {
        checkBlocks(names.get(i), rows[i], cols);
        labels.add(names.get(i));
        rowsIn4Bits.add(rows[i]);
      }
    }
    Iterator<Nf4Matrix> matrices =
        Nf4Matrix.stack(label(labels), rowsIn4Bits.stream().mapToLong(Long::longValue).toArray(), cols).iterator();
    List<FrozenStack.Part> parts = new ArrayList<>();
    for (int i = 0; i < rows.length; i++) {
      FrozenStack.Part part =
          quantized[i]
              ? new FrozenStack.Part(null, matrices.next())
              : new FrozenStack.Part(plain(names.get(i), rows[i], cols), null);
      parts.add(part);
      tensors.add(new Tensor(names.get(i), new long[] {rows[i], cols}, part.plain(), part.nf4(), null, null, null, 0));
    }
    return new Param(null, null, new FrozenStack(total, cols, parts), null, null);
  }

  /**
   * Several frozen tensors [rows_i, cols], each as a GGUF file holds it, used as one [sum of rows, cols].
   *
   * @param types of each; null: held plain
   */
  public Param stackInBlocks(List<String> names, long[] rows, long cols, List<GgmlType> types) {
    List<FrozenStack.Part> parts = new ArrayList<>();
    for (int i = 0; i < rows.length; i++) {
      FrozenStack.Part part =
          types.get(i) != null
              ? new FrozenStack.Part(null, null, GgmlMatrix.of(names.get(i), types.get(i), rows[i], cols))
              : new FrozenStack.Part(plain(names.get(i), rows[i], cols), null);
      parts.add(part);
      tensors.add(new Tensor(names.get(i), new long[] {rows[i], cols}, part.plain(), null, null, null, part.ggml(), null, 0, null));
    }
    return new Param(null, null, new FrozenStack(Arrays.stream(rows).sum(), cols, parts), null, null);
  }

  /** Several frozen tensors [rows_i, cols] in FP8, used as one [sum of rows, cols], whose shape {@link Fp8#fits}. */
  public Param stackInFp8(List<String> names, long[] rows, long cols) {
    Fp8Matrix stack = Fp8Matrix.of(label(names), Lifetime.WEIGHT_FP8, Arrays.stream(rows).sum(), cols);
    long at = 0;
    for (int i = 0; i < rows.length; i++) {
      tensors.add(
          new Tensor(
              names.get(i), new long[] {rows[i], cols}, null, null, null, new Fp8Rows(stack, at, rows[i]), null, 0));
      at += rows[i];
    }
    return new Param(null, null, null, null, stack);
  }

  /** A frozen tensor [rows, cols] in 8 bits. */
  public Param addIn8Bits(String name, long rows, long cols) {
    if (cols % Int8.BLOCK != 0) {
      throw new OribiException(
          name + " [" + rows + ", " + cols + "] cannot be in 8 bits: its rows are no multiple of " + Int8.BLOCK + " long");
    }
    Int8Matrix int8 = Int8Matrix.of(name, rows, cols);
    tensors.add(new Tensor(name, new long[] {rows, cols}, null, null, int8, null, null, 0));
    return new Param(null, null, null, int8, null);
  }

  private static void checkBlocks(String name, long rows, long cols) {
    if (Math.multiplyExact(rows, cols) % Nf4.BLOCK != 0) {
      throw new OribiException(
          name + " [" + rows + ", " + cols + "] cannot be in 4 bits: its elements are no multiple of " + Nf4.BLOCK);
    }
  }

  private static String label(List<String> names) {
    return names.size() == 1 ? names.get(0) : names.get(0) + " .. " + names.get(names.size() - 1);
  }

  private View plain(String label, long rows, long cols) {
    return View.of(new Buffer(label, Lifetime.WEIGHT, type, Rows.FIXED, rows, cols));
  }

  private long reserve(Group g, long elements) {
    long padded = (elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    long base = g.value.grow(padded);
    g.grad.grow(padded);
    g.m.grow(padded);
    g.v.grow(padded);
    if (g.value16 != null) {
      g.value16.grow(padded);
    }
    return base;
  }

  /** Every tensor, in the order of the model. */
  public List<Tensor> tensors() {
    return Collections.unmodifiableList(tensors);
  }

  public List<Tensor> trainable() {
    return tensors.stream().filter(Tensor::trainable).toList();
  }

  /** The groups that hold anything. */
  public List<Group> groups() {
    return List.of(decay, noDecay).stream().filter(g -> g.count() > 0).toList();
  }

  /** Frozen weights and trainable values: what must have memory even if no program names it. */
  public List<Buffer> buffers() {
    List<Buffer> all = new ArrayList<>();
    for (Tensor t : tensors) {
      for (Buffer b : t.buffers()) {
        if (!all.contains(b)) {
          all.add(b);
        }
      }
    }
    for (Group g : groups()) {
      if (!all.contains(g.value)) {
        all.add(g.value);
      }
    }
    return all;
  }
}
