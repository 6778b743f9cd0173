package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaErrorMemoryAllocation;
import static org.bytedeco.cuda.global.cudart.cudaGetErrorName;
import static org.bytedeco.cuda.global.cudart.cudaGetErrorString;
import static org.bytedeco.cuda.global.cudart.cudaGetLastError;
import static org.bytedeco.cuda.global.cudart.cudaSuccess;

import dev.oribi.OribiException;
import org.bytedeco.javacpp.Loader;

/**
 * The CUDA runtime's library and its errors. To be touched only once Oribi's own kernels have found a card: without a
 * driver, the runtime's binding cannot even be loaded.
 */
final class Cuda {
  private Cuda() {}

  /** Loads the runtime of CUDA 13 that the machine has. */
  static void load() {
    try {
      Loader.load(org.bytedeco.cuda.global.cudart.class);
    } catch (LinkageError e) {
      throw new OribiException(CudaSetup.missingLibrary("the CUDA runtime", "libcudart.so.13", e), e);
    }
  }

  /** Turns an error of the runtime into a sentence. */
  static void check(int status, String what) {
    if (status == cudaSuccess) {
      return;
    }
    cudaGetLastError(); // Forget it: a later call must not report it again.
    String remedy =
        status == cudaErrorMemoryAllocation
            ? "; other programs may hold the card's memory: `nvidia-smi` tells"
            : "; run again with --debug-sync to learn which op is at fault";
    throw new OribiException(
        what + ": CUDA reports " + cudaGetErrorName(status).getString() + " (" + cudaGetErrorString(status).getString()
            + ")" + remedy);
  }
}
