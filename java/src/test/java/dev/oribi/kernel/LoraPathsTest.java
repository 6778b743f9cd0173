package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.kernel.LoraPaths.Entry;
import dev.oribi.kernel.LoraPaths.Path;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
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

  /** Every line of the committed table decides its own size, read here anew from the file. */
  @Test
  void theTableInTheJarIsWhatIsChosen() throws IOException {
    List<String> lines;
    try (InputStream in = LoraPaths.class.getResourceAsStream("lora-paths.txt")) {
      lines = new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().filter(l -> !l.startsWith("#") && !l.isBlank()).toList();
    }
    assertThat(lines).as("measurements").hasSizeGreaterThanOrEqualTo(30);
    for (String line : lines) {
      String[] f = line.split("\\s+");
      assertThat(
              LoraPaths.of(
                  Integer.parseInt(f[0]), Long.parseLong(f[1]), Long.parseLong(f[2]), Long.parseLong(f[3]), f[4].equals("dx"),
                  f[5].equals("nf4")))
          .as(line).isEqualTo(f[6].equals("fused") ? Path.FUSED : Path.LIBRARY);
    }
    assertThat(lines.stream().map(l -> List.of(l.split("\\s+")).subList(0, 6)).distinct()).as("each size once").hasSameSizeAs(lines);
  }

  /** The faster of the two times that a line carries is the way that it names. */
  @Test
  void theTableInTheJarNamesTheFasterWay() throws IOException {
    try (InputStream in = LoraPaths.class.getResourceAsStream("lora-paths.txt")) {
      for (String line : new String(in.readAllBytes(), StandardCharsets.UTF_8).lines().toList()) {
        if (line.startsWith("#") || line.isBlank()) {
          continue;
        }
        String[] f = line.split("\\s+");
        assertThat(f[6]).as(line).isEqualTo(Double.parseDouble(f[7]) < Double.parseDouble(f[8]) ? "fused" : "library");
      }
    }
  }

  @Test
  void aPrintedLineIsReadBack() {
    for (Path path : Path.values()) {
      String line = LoraPaths.line(90, 2048, 4096, 6144, true, false, path, "12.5 20.0");
      assertThat(LoraPaths.parse(List.of(line))).containsExactly(new Entry(90, 2048, 4096, 6144, true, false, path));
    }
    assertThat(LoraPaths.parse(List.of(LoraPaths.line(80, 1, 64, 128, false, true, Path.FUSED, ""))))
        .containsExactly(new Entry(80, 1, 64, 128, false, true, Path.FUSED));
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
