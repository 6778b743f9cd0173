package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_BACKEND_DESCRIPTOR;
import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_BOOLEAN;
import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_DATA_TYPE;
import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_HANDLE;
import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_INT64;
import static org.bytedeco.cuda.global.cudnn.CUDNN_TYPE_VOID_PTR;
import static org.bytedeco.cuda.global.cudnn.cudnnBackendCreateDescriptor;
import static org.bytedeco.cuda.global.cudnn.cudnnBackendDestroyDescriptor;
import static org.bytedeco.cuda.global.cudnn.cudnnBackendFinalize;
import static org.bytedeco.cuda.global.cudnn.cudnnBackendGetAttribute;
import static org.bytedeco.cuda.global.cudnn.cudnnBackendSetAttribute;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cudnn.cudnnBackendDescriptor_t;
import org.bytedeco.cuda.cudnn.cudnnContext;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerPointer;

/**
 * Descriptors of cuDNN's backend interface: made, filled, finalized, and destroyed together, the last made first. cuDNN
 * copies every value that is set, so that temporaries can go at once.
 */
final class Descriptors implements AutoCloseable {
  private final List<cudnnBackendDescriptor_t> made = new ArrayList<>();

  /** A descriptor that is being filled; what it refers to must have been finished before. */
  final class Builder {
    private final cudnnBackendDescriptor_t descriptor = new cudnnBackendDescriptor_t();
    private final String what;

    private Builder(int type, String what) {
      this.what = what;
      CudnnException.check(cudnnBackendCreateDescriptor(type, descriptor), "creating " + what);
      made.add(descriptor);
    }

    Builder longs(int name, long... values) {
      try (LongPointer p = new LongPointer(values)) {
        return set(name, CUDNN_TYPE_INT64, values.length, p);
      }
    }

    Builder addresses(int name, long... values) {
      try (LongPointer p = new LongPointer(values)) {
        return set(name, CUDNN_TYPE_VOID_PTR, values.length, p);
      }
    }

    /** One value of an enumeration; {@code type} is cuDNN's name for that enumeration. */
    Builder choice(int name, int type, int value) {
      try (IntPointer p = new IntPointer(new int[] {value})) {
        return set(name, type, 1, p);
      }
    }

    Builder dataType(int name, int value) {
      return choice(name, CUDNN_TYPE_DATA_TYPE, value);
    }

    Builder flag(int name, boolean value) {
      try (BytePointer p = new BytePointer(new byte[] {(byte) (value ? 1 : 0)})) {
        return set(name, CUDNN_TYPE_BOOLEAN, 1, p);
      }
    }

    Builder descriptors(int name, cudnnBackendDescriptor_t... values) {
      // The array, not the single pointer: new PointerPointer(pointer) is a cast and would pass the descriptor itself.
      try (PointerPointer<Pointer> p = new PointerPointer<>((Pointer[]) values)) {
        return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, values.length, p);
      }
    }

    Builder optional(int name, Graph.Tensor tensor) {
      return tensor == null ? this : descriptors(name, tensor.descriptor());
    }

    Builder handle(int name, cudnnContext handle) {
      try (PointerPointer<Pointer> p = new PointerPointer<>(new Pointer[] {handle})) {
        return set(name, CUDNN_TYPE_HANDLE, 1, p);
      }
    }

    private Builder set(int name, int type, long count, Pointer values) {
      CudnnException.check(
          cudnnBackendSetAttribute(descriptor, name, type, count, values), "attribute " + name + " of " + what);
      return this;
    }

    cudnnBackendDescriptor_t finish() {
      CudnnException.check(cudnnBackendFinalize(descriptor), "finalizing " + what);
      return descriptor;
    }

    /** As {@link #finish}, but a refusal is an answer: null. */
    cudnnBackendDescriptor_t tryFinish() {
      return cudnnBackendFinalize(descriptor) == 0 ? descriptor : null;
    }
  }

  Builder make(int type, String what) {
    return new Builder(type, what);
  }

  /** The descriptors that an attribute of {@code from} holds, as new descriptors of {@code type}. */
  List<cudnnBackendDescriptor_t> get(cudnnBackendDescriptor_t from, int name, int type, String what) {
    long[] count = new long[1];
    CudnnException.check(
        cudnnBackendGetAttribute(from, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, count, null), "counting " + what);
    cudnnBackendDescriptor_t[] found = new cudnnBackendDescriptor_t[(int) count[0]];
    for (int i = 0; i < found.length; i++) {
      found[i] = make(type, what).descriptor;
    }
    if (found.length > 0) {
      try (PointerPointer<Pointer> p = new PointerPointer<>((Pointer[]) found)) {
        CudnnException.check(
            cudnnBackendGetAttribute(from, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, found.length, count, p),
            "reading " + what);
      }
    }
    return List.of(found).subList(0, (int) Math.min(count[0], found.length));
  }

  static long getLong(cudnnBackendDescriptor_t from, int name, String what) {
    long[] count = new long[1];
    try (LongPointer value = new LongPointer(1)) {
      CudnnException.check(cudnnBackendGetAttribute(from, name, CUDNN_TYPE_INT64, 1, count, value), "reading " + what);
      return value.get();
    }
  }

  @Override
  public void close() {
    for (int i = made.size() - 1; i >= 0; i--) {
      cudnnBackendDestroyDescriptor(made.get(i));
    }
    made.clear();
  }
}
