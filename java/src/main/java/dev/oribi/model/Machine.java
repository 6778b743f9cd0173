package dev.oribi.model;

import dev.oribi.device.CpuDevice;
import dev.oribi.device.Device;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.OpenBlasGemm;
import dev.oribi.program.Emit;

/** A device with its kernels and its library of products: what programs are planned for and run on. */
public record Machine(Device device, Kernels kernels, Gemm gemm) implements AutoCloseable {
  /**
   * The CPU.
   *
   * @param threads 0 for all the cores there are
   */
  public static Machine cpu(int threads) {
    Kernels kernels = Kernels.cpu(threads);
    return new Machine(new CpuDevice(), kernels, new OpenBlasGemm(kernels));
  }

  public Emit.Library library() {
    return new Emit.Library(kernels, gemm);
  }

  /** Such as "CPU avx512, 2 threads". */
  public String describe() {
    int threads = kernels.threads();
    return "CPU " + kernels.deviceName() + ", " + threads + (threads == 1 ? " thread" : " threads");
  }

  @Override
  public void close() {
    gemm.close();
    kernels.close();
    device.close();
  }
}
