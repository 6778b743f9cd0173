package dev.oribi.generate;

import java.util.List;
import java.util.function.Predicate;

/** Passes text on piece by piece, keeps back what may be the beginning of a text that ends it, and cuts it off there. */
final class StopText {
  private final List<String> stops;
  private final Predicate<String> onText;
  private final StringBuilder all = new StringBuilder();
  private int given;
  private boolean stopped;
  private boolean cancelled;

  StopText(List<String> stops, Predicate<String> onText) {
    this.stops = stops.stream().filter(s -> !s.isEmpty()).toList();
    this.onText = onText;
  }

  /** Takes the next piece; false: no more is wanted. */
  boolean add(String piece) {
    if (stopped || cancelled) {
      return false;
    }
    int from = all.length();
    all.append(piece);
    int first = -1;
    for (String stop : stops) {
      int at = all.indexOf(stop, Math.max(0, from - stop.length() + 1));
      first = at >= 0 && (first < 0 || at < first) ? at : first;
    }
    if (first >= 0) {
      all.setLength(Math.max(first, given));
      stopped = true;
    }
    give(stopped ? all.length() : all.length() - heldBack());
    return !stopped && !cancelled;
  }

  /** Asks, with no text, whether more is wanted. */
  boolean wanted() {
    cancelled |= !onText.test("");
    return !cancelled;
  }

  /** The end of the text came otherwise: what was kept back is part of it. */
  void finish() {
    if (!stopped && !cancelled) {
      give(all.length());
    }
  }

  private void give(int end) {
    if (end > given && !cancelled) {
      cancelled = !onText.test(all.substring(given, end));
      given = end;
    }
  }

  /** Length of the longest end of the text that begins a stop. */
  private int heldBack() {
    int longest = 0;
    for (String stop : stops) {
      for (int n = Math.min(stop.length() - 1, all.length()); n > longest; n--) {
        if (endsWith(stop, n)) {
          longest = n;
        }
      }
    }
    return Math.min(longest, all.length() - given);
  }

  /** Whether the text ends with the first {@code n} characters of {@code stop}; most differ in the first, so a long stop costs little. */
  private boolean endsWith(String stop, int n) {
    int from = all.length() - n;
    for (int i = 0; i < n; i++) {
      if (all.charAt(from + i) != stop.charAt(i)) {
        return false;
      }
    }
    return true;
  }

  String text() {
    return all.substring(0, Math.max(given, stopped ? all.length() : given));
  }

  boolean stopped() {
    return stopped;
  }

  boolean cancelled() {
    return cancelled;
  }
}
