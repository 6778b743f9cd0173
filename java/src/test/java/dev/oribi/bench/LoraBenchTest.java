package dev.oribi.bench;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.model.Machine;
import dev.oribi.testing.TestMachine;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class LoraBenchTest {
  private static String run(Machine machine) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    LoraBench.run(
        machine, new LoraBench.Options(List.of("smollm2-135m", "smollm2-360m"), List.of(64L), 16),
        new PrintStream(bytes, true, StandardCharsets.UTF_8));
    return bytes.toString(StandardCharsets.UTF_8);
  }

  /** Four stacks of each shape, both passes; o and down, each one matrix, in 4 bits too. */
  @Test
  void everyProductHasALine() {
    TestMachine.needsCuda();
    try (Machine machine = TestMachine.open()) {
      List<String> lines = run(machine).lines().filter(l -> !l.startsWith("#")).toList();
      assertThat(lines).hasSize(2 * (4 + 2) * 2);
      assertThat(lines).allMatch(l -> l.matches("\\d+ 64 \\d+ \\d+ (y|dx) (16|nf4) (fused|library)  \\d+\\.\\d \\d+\\.\\d"));
      assertThat(lines).filteredOn(l -> l.contains(" nf4 ")).hasSize(8);
    }
  }

  @Test
  void aCpuIsRefused() {
    try (Machine machine = TestMachine.cpu()) {
      assertThatThrownBy(() -> run(machine)).isInstanceOf(OribiException.class).hasMessageContaining("--device cuda");
    }
  }
}
