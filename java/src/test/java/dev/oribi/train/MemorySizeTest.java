package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

final class MemorySizeTest {
  @ParameterizedTest
  @CsvSource({
    "8GiB, 8589934592", "8G, 8589934592", "8GB, 8000000000", "7.5 gib, 8053063680", "900MiB, 943718400", "1TiB, 1099511627776",
    "64k, 65536"
  })
  void amounts(String text, long bytes) {
    assertThat(MemorySize.parse("--memory", text)).isEqualTo(bytes);
  }

  @Test
  void nothingIsZero() {
    assertThat(MemorySize.parse("--memory", null)).isZero();
    assertThat(MemorySize.parse("--memory", " ")).isZero();
  }

  @ParameterizedTest
  @ValueSource(strings = {"8", "GiB", "-1GiB", "0GiB", "8 apples", "1e3GiB", "99999999999999TiB", "8GiB8"})
  void othersAreRefused(String text) {
    assertThatThrownBy(() -> MemorySize.parse("--memory", text))
        .isInstanceOf(OribiException.class)
        .hasMessage("--memory is " + text + ": write an amount with its unit, such as 8GiB.");
  }
}
