package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Arena;
import dev.oribi.device.Mem;
import dev.oribi.model.Machine;
import dev.oribi.testing.TestMachine;
import java.util.List;
import org.junit.jupiter.api.Test;

class GemmTunerTest {
  /** Whatever was chosen computes the same product: ones by ones are exact in every order of the sum. */
  @Test
  void theChosenAlgorithmIsRight() {
    TestMachine.needsCuda();
    int m = 200;
    int n = 264;
    int k = 512;
    try (Machine machine = TestMachine.open(0)) {
      CublasLtGemm gemm = (CublasLtGemm) machine.gemm();
      for (DType t : List.of(DType.F32, DType.BF16)) {
        Gemm.Shape s = new Gemm.Shape(false, true, m, n, k, k, k, n, t, t, DType.F32);
        long space = gemm.workspace(s);
        GemmTuner.Result r = new GemmTuner(machine.device(), machine.kernels(), gemm).tune(s, 0);
        System.out.printf(
            "%s %dx%dx%d: %d candidates, the first %d ns, number %d %d ns%n", t.label(), m, n, k, r.candidates(), r.first(),
            r.chosen(), r.fastest());
        assertThat(r.fastest()).isPositive().isLessThanOrEqualTo(r.first());
        assertThat(r.candidates()).isBetween(2, 8);
        long bytes = (long) t.bytes() * k;
        try (Arena arena = machine.device().allocate("a test", bytes * (m + n) + 4L * m * n + space)) {
          Mem a = arena.all().slice(0, bytes * m);
          Mem b = arena.all().slice(bytes * m, bytes * n);
          Mem c = arena.all().slice(bytes * (m + n), 4L * m * n);
          Mem workspace = arena.all().slice(bytes * (m + n) + 4L * m * n, space);
          machine.kernels().fill(a, (long) m * k, 1, t);
          machine.kernels().fill(b, (long) n * k, 1, t);
          gemm.multiply(c, a, b, workspace, s, 1, 0);
          float[] found = new float[m * n];
          machine.device().read(c, found, 0, found.length);
          assertThat(found).containsOnly(k);
        }
      }
    }
  }
}
