package dev.oribi.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import dev.oribi.OribiException;
import dev.oribi.kernel.DType;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.testing.TestMachine;
import dev.oribi.testing.TinyModels;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MachineTest {
  private static final boolean DRIVER = Files.exists(Path.of("/proc/driver/nvidia/version"));

  private static ModelConfig stored(String dtype) {
    ModelConfig c = TinyModels.tiny("silu", false);
    return new ModelConfig(
        c.modelType(), c.hiddenSize(), c.intermediateSize(), c.numHiddenLayers(), c.numAttentionHeads(),
        c.numKeyValueHeads(), c.headDim(), c.vocabSize(), c.maxPositionEmbeddings(), c.rmsNormEps(), c.hiddenAct(), c.rope(),
        c.tieWordEmbeddings(), dtype, c.bosTokenId(), c.eosTokenIds(), c.padTokenId(), null);
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "CPU", "cuda0"})
  void refusesOtherNames(String name) {
    assertThatThrownBy(() -> Machine.open(name, 1))
        .isInstanceOf(OribiException.class).hasMessage("--device " + name + ": there is auto, cpu, cuda or cuda:N");
  }

  @Test
  void theCpuIsTakenWhenItIsAskedFor() {
    try (Machine m = Machine.open("cpu", 1)) {
      assertThat(m.isCuda()).isFalse();
      assertThat(m.describe()).startsWith("CPU ").endsWith(", 1 thread");
      assertThat(m.noGpu()).isEmpty();
      assertThat(m.defaultType(stored("bfloat16"))).isEqualTo(DType.F32);
    }
  }

  /** Where there is no driver: "auto" says that it took the CPU, and "cuda" does not take it. */
  @Test
  void withoutAGpu() {
    assumeFalse(DRIVER, "there is a driver");
    try (Machine m = Machine.open("auto", 1)) {
      assertThat(m.isCuda()).isFalse();
      assertThat(m.describe()).startsWith("CPU ").endsWith(", 1 thread, no GPU");
      assertThat(m.noGpu()).startsWith("no NVIDIA driver is running here");
    }
    for (String name : new String[] {"cuda", "cuda:0", "cuda:3"}) {
      assertThatThrownBy(() -> Machine.open(name, 1))
          .isInstanceOf(OribiException.class)
          .hasMessageStartingWith("no NVIDIA driver is running here: install driver 580 or later")
          .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
    }
  }

  @Test
  void withAGpu() {
    TestMachine.needsCuda();
    try (Machine m = TestMachine.open();
        Machine auto = Machine.open("auto", 1)) {
      assertThat(auto.isCuda()).isTrue();
      assertThat(auto.describe()).isEqualTo(m.describe()).contains("(sm_" + m.kernels().architecture() + ")");
      DType half = m.kernels().architecture() >= 80 ? DType.BF16 : DType.F16;
      assertThat(m.defaultType(stored("bfloat16"))).isEqualTo(half);
      assertThat(m.defaultType(stored("float16"))).isEqualTo(half);
      assertThat(m.defaultType(stored("float32"))).isEqualTo(DType.F32);
      assertThat(m.defaultType(stored(null))).isEqualTo(DType.F32);
    }
    assertThatThrownBy(() -> Machine.open("cuda:99", 1))
        .isInstanceOf(OribiException.class).hasMessageContaining("CUDA device 99 asked for");
  }
}
