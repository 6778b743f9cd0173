package dev.oribi.generate;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class StopTextTest {
  private final List<String> given = new ArrayList<>();

  private StopText run(List<String> stops, String... pieces) {
    StopText text = new StopText(stops, given::add);
    for (String piece : pieces) {
      if (!text.add(piece)) {
        return text;
      }
    }
    text.finish();
    return text;
  }

  @Test
  void withoutStopsEveryPieceGoesThrough() {
    assertThat(run(List.of(), "a", "", "bc").text()).isEqualTo("abc");
    assertThat(given).containsExactly("a", "bc");
  }

  @Test
  void aStopAcrossPiecesIsNeverShown() {
    StopText text = run(List.of("\nUser:"), "Yes.", "\nUs", "er: no");
    assertThat(text.stopped()).isTrue();
    assertThat(text.text()).isEqualTo("Yes.");
    assertThat(String.join("", given)).isEqualTo("Yes.");
  }

  @Test
  void whatOnlyBeginsAStopIsShownInTheEnd() {
    StopText text = run(List.of("END"), "the E", "N", "t, E");
    assertThat(text.stopped()).isFalse();
    assertThat(String.join("", given)).isEqualTo("the ENt, E").isEqualTo(text.text());
    assertThat(given.get(0)).isEqualTo("the ");
  }

  @Test
  void theFirstStopWins() {
    assertThat(run(List.of("cd", "b"), "abcd").text()).isEqualTo("a");
    assertThat(run(List.of("aab"), "aaab").text()).isEqualTo("a");
  }

  @Test
  void whoWantsNoMoreEndsIt() {
    StopText text = new StopText(List.of(), piece -> false);
    assertThat(text.add("a")).isFalse();
    assertThat(text.cancelled()).isTrue();
  }

  @Test
  void whoWantsNoMoreSaysSoBeforeAnyText() {
    StopText text = new StopText(List.of(), piece -> false);
    assertThat(text.wanted()).isFalse();
    assertThat(text.cancelled()).isTrue();
    assertThat(text.add("a")).isFalse();
    assertThat(text.text()).isEmpty();
  }
}
