package dev.oribi.device;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CudaSetupTest {
  @TempDir Path folder;

  private String withDriver(String text) throws IOException {
    return CudaSetup.noDevice(Files.writeString(folder.resolve("version"), text), "CUDA says no");
  }

  @Test
  void noDriver() {
    assertThat(CudaSetup.noDevice(folder.resolve("none"), "CUDA says no"))
        .isEqualTo(
            "no NVIDIA driver is running here: install driver 580 or later, or run on the CPU with --device cpu (CUDA says no)");
  }

  @Test
  void anOldDriver() throws IOException {
    assertThat(withDriver("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC 12\n"))
        .startsWith("the NVIDIA driver is 535 and CUDA 13 needs 580 or later: update it");
  }

  @Test
  void aDriverWithoutAGpu() throws IOException {
    assertThat(withDriver("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"))
        .startsWith("the NVIDIA driver is there, but no GPU can be used").contains("CUDA_VISIBLE_DEVICES");
    assertThat(withDriver("something new\n")).startsWith("the NVIDIA driver is there");
  }

  @Test
  void aMissingLibrary() {
    Error system = new UnsatisfiedLinkError("libcublas.so.13: cannot open shared object file: No such file\nand more");
    Error loader = (Error) new UnsatisfiedLinkError("no jnicublas in java.library.path").initCause(system);
    assertThat(CudaSetup.missingLibrary("cuBLAS", "libcublasLt.so.13", loader))
        .startsWith("cuBLAS (libcublasLt.so.13) cannot be loaded: install")
        .contains("LD_LIBRARY_PATH", "--device cpu", "libcublas.so.13: cannot open shared object file")
        .satisfies(m -> assertThat(m.lines()).hasSize(1));
  }
}
