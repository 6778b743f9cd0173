package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.oribi.kernel.cudnn.CudnnLibrary;
import org.junit.jupiter.api.Test;

/** Which shapes cuDNN is asked for; no GPU is needed to decide that. */
class AttentionChoiceTest {
  private static AttentionShape shape(int headDim, DType type, long ld) {
    return new AttentionShape(100, 2, 60, 4, 2, headDim, ld, ld, ld, ld, null, null, null, 1, 0, 0, type);
  }

  @Test
  void whatCudnnCovers() {
    assertThat(CudnnAttention.unsupported(shape(64, DType.BF16, 512), 90)).isNull();
    assertThat(CudnnAttention.unsupported(shape(256, DType.F16, 2048), 90)).isNull();
    assertThat(CudnnAttention.unsupported(shape(128, DType.BF16, 1024), 100)).isNull();
  }

  @Test
  void whatItDoesNot() {
    assertThat(CudnnAttention.unsupported(shape(64, DType.BF16, 512), 80)).contains("this card has 8.0");
    assertThat(CudnnAttention.unsupported(shape(64, DType.F32, 512), 90)).contains("not float32");
    assertThat(CudnnAttention.unsupported(shape(100, DType.BF16, 800), 90)).contains("to 256, not 100");
    assertThat(CudnnAttention.unsupported(shape(264, DType.BF16, 2112), 90)).contains("to 256, not 264");
    assertThat(CudnnAttention.unsupported(shape(256, DType.BF16, 2048), 100)).contains("to 128, not 256");
    assertThat(CudnnAttention.unsupported(shape(8, DType.BF16, 512), 90)).contains("from 64 to 256, not 8");
    assertThat(CudnnAttention.unsupported(shape(72, DType.BF16, 576), 90)).contains("multiples of 16 from 64 to 256, not 72");
    assertThat(CudnnAttention.unsupported(shape(64, DType.BF16, 516), 90)).contains("multiples of 16 bytes");
  }

  @Test
  void whenItIsTakenUnasked() {
    assertThat(AttentionChoice.prefers(AttentionLibrary.AUTO, 90, false)).isTrue();
    assertThat(AttentionChoice.prefers(AttentionLibrary.AUTO, 90, true)).as("--deterministic").isFalse();
    assertThat(AttentionChoice.prefers(AttentionLibrary.AUTO, 89, false)).as("never measured").isFalse();
    assertThat(AttentionChoice.prefers(AttentionLibrary.AUTO, 100, false)).as("never measured").isFalse();
    assertThat(AttentionChoice.prefers(AttentionLibrary.ORIBI, 90, false)).isFalse();
  }

  @Test
  void whoseBackwardPassIsTaken() {
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(128, 2048, 0, 0))).isTrue();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(128, 8192, 0, 0))).as("slower").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(64, 8192, 0, 0))).isTrue();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(64, 8193, 0, 0))).as("never measured").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(128, 0, 0, 0))).as("length not known").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(256, 2048, 0, 0))).as("slower").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(128, 2048, 100, 0))).as("never measured").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.AUTO, causal(128, 2048, 0, 5))).as("never measured").isFalse();
    assertThat(AttentionChoice.ownBackward(AttentionLibrary.CUDNN, causal(128, 2048, 0, 0))).as("asked for").isFalse();
  }

  private static AttentionShape causal(int headDim, long longest, long window, float softcap) {
    long row = 48L * headDim;
    return new AttentionShape(
        8192, 4, longest, 32, 8, headDim, row, row, row, 32L * headDim, null, null, null, 1, window, softcap, DType.BF16);
  }

  /** 64 sequences of 8192 tokens in rows of 6144 elements are 3.2e9 elements, though no batch has that many rows. */
  @Test
  void whatCudnnCanAddress() {
    AttentionShape wide =
        new AttentionShape(8192, 64, 8192, 32, 8, 128, 6144, 6144, 6144, 4096, null, null, null, 1, 0, 0, DType.BF16);
    AttentionShape narrow =
        new AttentionShape(8192, 20, 8192, 32, 8, 128, 6144, 6144, 6144, 4096, null, null, null, 1, 0, 0, DType.BF16);
    assertThat(CudnnAttention.addressable(wide)).isFalse();
    assertThat(CudnnAttention.addressable(narrow)).isTrue();
  }

  @Test
  void aMissingLibraryIsToldInOneLine() {
    String unusable = CudnnLibrary.unusable();
    assumeTrue(unusable != null, "cuDNN is here");
    assertThat(unusable).startsWith("cuDNN ").contains("install cuDNN 9 for CUDA 13").doesNotContain("\n");
  }

  @Test
  void names() {
    assertThat(AttentionLibrary.of("auto")).isEqualTo(AttentionLibrary.AUTO);
    assertThat(AttentionLibrary.of("cudnn")).isEqualTo(AttentionLibrary.CUDNN);
    assertThat(AttentionLibrary.of("oribi")).isEqualTo(AttentionLibrary.ORIBI);
    assertThatThrownBy(() -> AttentionLibrary.of("flash")).hasMessageContaining("auto, cudnn or oribi");
  }

  /** Without a GPU the own kernels serve every shape, and cuDNN is never looked for. */
  @Test
  void theCpuUsesItsOwnKernels() {
    try (Kernels kernels = Kernels.cpu(1);
        AttentionChoice auto = new AttentionChoice(kernels, AttentionLibrary.AUTO, false)) {
      AttentionShape s = shape(64, DType.BF16, 512);
      assertThat(auto.workspace(s, true)).isEqualTo(kernels.attentionWorkspace(s, true));
      assertThat(auto.describe()).isEqualTo("own kernels");
    }
  }
}
