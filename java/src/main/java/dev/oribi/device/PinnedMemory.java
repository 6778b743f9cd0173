package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaErrorMemoryAllocation;
import static org.bytedeco.cuda.global.cudart.cudaGetLastError;
import static org.bytedeco.cuda.global.cudart.cudaHostRegister;
import static org.bytedeco.cuda.global.cudart.cudaHostRegisterMapped;
import static org.bytedeco.cuda.global.cudart.cudaHostRegisterPortable;
import static org.bytedeco.cuda.global.cudart.cudaHostUnregister;
import static org.bytedeco.cuda.global.cudart.cudaSuccess;

import java.util.stream.LongStream;
import org.bytedeco.javacpp.Pointer;

/**
 * Memory of the host that copies and kernels of the card reach by itself. It is taken from the system, touched by all cores at once and
 * then pinned: cudaHostAlloc, which touches it with one thread, needs four times as long for the gigabytes that a step may keep on the host.
 */
final class PinnedMemory {
  /** What one thread touches at a time. */
  private static final long PIECE = 64L << 20;

  private PinnedMemory() {}

  /** Takes zeroed memory, or nothing (null) if there is too little. */
  static Pointer take(String what, long bytes) {
    Pointer block = Pointer.malloc(bytes);
    if (block == null || block.isNull()) {
      return null;
    }
    long from = block.address();
    LongStream.range(0, (bytes + PIECE - 1) / PIECE).parallel().forEach(i -> {
      long at = i * PIECE;
      Pointer.memset(new Mem(from + at, 0).pointer(), 0, Math.min(PIECE, bytes - at));
    });
    // Cards that CUDA 13 knows reach registered memory at the host's own addresses.
    int status = cudaHostRegister(block, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
    if (status == cudaSuccess) {
      return block;
    }
    Pointer.free(block);
    cudaGetLastError(); // Forget it: a later call must not report it again.
    if (status != cudaErrorMemoryAllocation) {
      Cuda.check(status, what + ": pinning " + bytes + " bytes of the host's memory");
    }
    return null;
  }

  /** Gives a block back; the CUDA status. */
  static int free(Pointer block) {
    int status = cudaHostUnregister(block);
    if (status == cudaSuccess) {
      Pointer.free(block);
    }
    return status;
  }
}
