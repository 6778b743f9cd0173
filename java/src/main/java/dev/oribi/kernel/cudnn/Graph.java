package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.*;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cudnn.cudnnBackendDescriptor_t;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;

/**
 * A description of arithmetic for cuDNN: tensors, and operations on them in the order in which they are added. Arithmetic
 * is fp32 but for indices (int32) and masks (boolean). Nothing runs before a {@link Plan} is made of it.
 */
final class Graph implements AutoCloseable {
  static final int F32 = CUDNN_DATA_FLOAT;
  static final int I32 = CUDNN_DATA_INT32;
  static final int I64 = CUDNN_DATA_INT64;
  static final int MASK = CUDNN_DATA_BOOLEAN;

  /** cuDNN wants at least 16 bytes for the tensors of attention; Oribi's arrays have 64, and heads begin at multiples of 16. */
  private static final long ALIGNMENT = 16;

  private static final long[] ONE = {1, 1, 1, 1};

  /**
   * Four dimensions with strides in elements.
   *
   * @param slot place among the tensors that an execution binds; -1: virtual, it exists inside the kernel alone
   */
  record Tensor(cudnnBackendDescriptor_t descriptor, int type, long[] dims, long[] strides, int slot) {}

  private final Descriptors descriptors = new Descriptors();
  private final List<cudnnBackendDescriptor_t> operations = new ArrayList<>();
  private final List<Long> uids = new ArrayList<>();
  private final List<Long> fixed = new ArrayList<>();
  private final List<Pointer> scalars = new ArrayList<>();
  private long nextUid = 1;

  /** A tensor in the device's memory; {@code offsets} null: dense. Otherwise where each sequence begins, in elements. */
  Tensor real(int type, long[] dims, long[] strides, Tensor offsets) {
    return tensor(type, dims, strides, false, offsets, null);
  }

  /** A result that only other operations of the graph see. */
  Tensor virtual(int type, long[] dims, long[] strides) {
    return tensor(type, dims, strides, true, null, null);
  }

  /** Virtual, with the offsets of another tensor that has the same rows. */
  Tensor virtual(int type, long[] dims, long[] strides, Tensor offsets) {
    return tensor(type, dims, strides, true, offsets, null);
  }

  Tensor virtualLike(Tensor x, int type) {
    return virtual(type, x.dims, x.strides);
  }

  /** A number that is given by value. Its memory must live until the last execution: a plan reads it each time. */
  Tensor scalar(float value) {
    FloatPointer memory = new FloatPointer(new float[] {value});
    scalars.add(memory);
    return tensor(F32, ONE, ONE, false, null, memory);
  }

  private Tensor tensor(int type, long[] dims, long[] strides, boolean virtual, Tensor offsets, Pointer value) {
    long uid = nextUid++;
    Descriptors.Builder builder =
        descriptors
            .make(CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor " + uid)
            .dataType(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
            .longs(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
            .longs(CUDNN_ATTR_TENSOR_STRIDES, strides)
            .longs(CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)
            .longs(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, ALIGNMENT)
            .optional(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, offsets);
    if (virtual) {
      builder.flag(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
      return new Tensor(builder.finish(), type, dims, strides, -1);
    }
    if (value != null) {
      builder.flag(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
    }
    uids.add(uid);
    fixed.add(value == null ? 0 : value.address());
    return new Tensor(builder.finish(), type, dims, strides, uids.size() - 1);
  }

  /** The number of each place of a row (axis 2) or column (axis 3) of {@code like}. */
  Tensor index(int axis, Tensor like, int arithmetic) {
    cudnnBackendDescriptor_t mode =
        descriptors
            .make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "index mode")
            .choice(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_GEN_INDEX)
            .dataType(CUDNN_ATTR_POINTWISE_MATH_PREC, arithmetic)
            .longs(CUDNN_ATTR_POINTWISE_AXIS, axis)
            .finish();
    return pointwise(mode, like, null, null, virtualLike(like, I32));
  }

  /** A mask: x against b, or x and b. */
  Tensor test(int mode, Tensor x, Tensor b) {
    return pointwise(mode(mode, MASK), x, b, null, virtualLike(x, MASK));
  }

  /** x where keep holds, otherwise minus infinity. */
  Tensor mask(Tensor x, Tensor keep) {
    Tensor never = scalar(Float.NEGATIVE_INFINITY);
    return pointwise(mode(CUDNN_POINTWISE_BINARY_SELECT, F32), x, never, keep, virtualLike(x, F32));
  }

  /** A new fp32 tensor of the shape of x; {@code b} null: the operation has one operand. */
  Tensor apply(int mode, Tensor x, Tensor b) {
    return apply(mode, x, b, virtualLike(x, F32));
  }

  Tensor apply(int mode, Tensor x, Tensor b, Tensor y) {
    return pointwise(mode(mode, F32), x, b, null, y);
  }

  /** dx = dy * (1 - tanh(x)^2) */
  Tensor tanhBackward(Tensor x, Tensor dy) {
    Tensor dx = virtualLike(x, F32);
    operations.add(
        descriptors
            .make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "derivative of tanh")
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, mode(CUDNN_POINTWISE_TANH_BWD, F32))
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx.descriptor)
            .finish());
    return dx;
  }

  private cudnnBackendDescriptor_t mode(int mode, int arithmetic) {
    return descriptors
        .make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise mode " + mode)
        .choice(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode)
        .dataType(CUDNN_ATTR_POINTWISE_MATH_PREC, arithmetic)
        .finish();
  }

  private Tensor pointwise(cudnnBackendDescriptor_t mode, Tensor x, Tensor b, Tensor t, Tensor y) {
    operations.add(
        descriptors
            .make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "pointwise operation")
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, mode)
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y.descriptor)
            .optional(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b)
            .optional(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t)
            .finish());
    return y;
  }

  /** c = a·b of the last two dimensions; m, n, k: tensors with the sizes of each sequence where they differ, or null. */
  Tensor matmul(Tensor a, Tensor b, Tensor c, Tensor m, Tensor n, Tensor k) {
    cudnnBackendDescriptor_t kind =
        descriptors
            .make(CUDNN_BACKEND_MATMUL_DESCRIPTOR, "product kind")
            .dataType(CUDNN_ATTR_MATMUL_COMP_TYPE, F32)
            .finish();
    operations.add(
        descriptors
            .make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "product")
            .descriptors(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_MATMUL_CDESC, c.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_MATMUL_DESC, kind)
            .optional(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m)
            .optional(CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n)
            .optional(CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k)
            .finish());
    return c;
  }

  /** y = x reduced over the dimensions that y has 1 of, or fewer. */
  Tensor reduce(int operator, Tensor x, Tensor y) {
    cudnnBackendDescriptor_t kind =
        descriptors
            .make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction kind")
            .dataType(CUDNN_ATTR_REDUCTION_COMP_TYPE, F32)
            .choice(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, operator)
            .finish();
    operations.add(
        descriptors
            .make(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "reduction")
            .descriptors(CUDNN_ATTR_OPERATION_REDUCTION_DESC, kind)
            .descriptors(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y.descriptor)
            .finish());
    return y;
  }

  /** y = x seen with other dimensions and strides. */
  Tensor reshape(Tensor x, Tensor y) {
    operations.add(
        descriptors
            .make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "reshape")
            .descriptors(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor)
            .descriptors(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y.descriptor)
            .finish());
    return y;
  }

  cudnnBackendDescriptor_t[] operations() {
    return operations.toArray(new cudnnBackendDescriptor_t[0]);
  }

  /** Names of the bound tensors, by slot. */
  long[] uids() {
    return uids.stream().mapToLong(Long::longValue).toArray();
  }

  /** Addresses by slot: those of the scalars are there, the others are 0 and the caller's to fill in. */
  long[] addresses() {
    return fixed.stream().mapToLong(Long::longValue).toArray();
  }

  @Override
  public void close() {
    descriptors.close();
    scalars.forEach(Pointer::close);
    scalars.clear();
  }
}
