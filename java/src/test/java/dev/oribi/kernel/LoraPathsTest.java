package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.kernel.LoraPaths.Entry;
import dev.oribi.kernel.LoraPaths.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The table that chooses between the fused kernel and the library's product. */
class LoraPathsTest {
  private static final List<Entry> TABLE =
      LoraPaths.parse(
          List.of(
              "# architecture  n  in  out  pass  weight  way",
              "",
              "90 1024 4096 6144 y  16  fused",
              "90 8192 4096 6144 y  16  library  410.0 390.0 r16",
              "90 8192 4096 6144 dx 16  fused",
              "90 8192 4096 6144 y  nf4 fused"));

  @AfterEach
  void clear() {
    System.clearProperty("oribi.lora");
  }

  @Test
  void theNearestNumberOfRowsDecides() {
    assertThat(LoraPaths.of(TABLE, 90, 1024, 4096, 6144, false, false)).isEqualTo(Path.FUSED);
    assertThat(LoraPaths.of(TABLE, 90, 8192, 4096, 6144, false, false)).isEqualTo(Path.LIBRARY);
    assertThat(LoraPaths.of(TABLE, 90, 2800, 4096, 6144, false, false)).isEqualTo(Path.FUSED);
    assertThat(LoraPaths.of(TABLE, 90, 3000, 4096, 6144, false, false)).isEqualTo(Path.LIBRARY);
    assertThat(LoraPaths.of(TABLE, 90, 100_000, 4096, 6144, false, false)).isEqualTo(Path.LIBRARY);
  }

  @Test
  void passWeightSizeAndCardMustBeThoseMeasured() {
    assertThat(LoraPaths.of(TABLE, 90, 8192, 4096, 6144, true, false)).isEqualTo(Path.FUSED);
    assertThat(LoraPaths.of(TABLE, 90, 8192, 4096, 6144, false, true)).isEqualTo(Path.FUSED);
    Path unmeasured = LoraPaths.of(List.of(), 90, 8192, 4096, 6144, false, false);
    assertThat(unmeasured).isEqualTo(Path.FUSED);
    assertThat(LoraPaths.of(List.of(), 90, 8192, 4096, 6144, false, true)).as("in 4 bits").isEqualTo(Path.LIBRARY);
    assertThat(LoraPaths.of(TABLE, 80, 8192, 4096, 6144, false, false)).isEqualTo(unmeasured);
    assertThat(LoraPaths.of(TABLE, 90, 8192, 6144, 4096, false, false)).isEqualTo(unmeasured);
  }

  @Test
  void theTableInTheJarIsSound() {
    for (int architecture : new int[] {75, 80, 86, 89, 90}) {
      assertThat(LoraPaths.of(architecture, 8192, 4096, 4096, false, false)).isNotNull();
    }
  }

  @Test
  void aLineThatSaysNeitherIsRefused() {
    assertThatThrownBy(() -> LoraPaths.parse(List.of("90 1024 4096 6144 y 16 maybe")))
        .hasMessageContaining("'maybe' is neither fused nor library");
  }

  @Test
  void thePropertyOverridesTheTable() {
    assertThat(LoraPaths.wanted(0)).as("on a CPU").isFalse();
    assertThat(LoraPaths.wanted(90)).isTrue();
    System.setProperty("oribi.lora", "fused");
    assertThat(LoraPaths.wanted(0)).isTrue();
    assertThat(LoraPaths.of(90, 1, 1, 1, false, false)).isEqualTo(Path.FUSED);
    System.setProperty("oribi.lora", "library");
    assertThat(LoraPaths.of(90, 1, 1, 1, false, false)).isEqualTo(Path.LIBRARY);
    System.setProperty("oribi.lora", "separate");
    assertThat(LoraPaths.wanted(90)).isFalse();
    System.setProperty("oribi.lora", "quick");
    assertThatThrownBy(() -> LoraPaths.wanted(90)).isInstanceOf(OribiException.class).hasMessageContaining("'quick'");
  }
}
