package dev.oribi.jmh;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.DType;
import dev.oribi.model.Machine;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Every benchmark that needs no GPU runs, so that none is found broken by who wants to measure. */
class CaseTest {
  @ParameterizedTest
  @EnumSource(value = Case.class, mode = EnumSource.Mode.MATCH_NONE, names = "CUDNN_.*")
  void runs(Case kernel) {
    for (DType type : new DType[] {DType.F32, DType.BF16}) {
      try (Bench bench = new Bench(Machine.cpu(2), type, 61)) {
        Work work = kernel.of(bench);
        work.call().run();
        work.call().run();
        bench.kernels.synchronize();
        assertThat(work.bytes()).isPositive();
        assertThat(work.flops()).isNotNegative();
      }
    }
  }
}
