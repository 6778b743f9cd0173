package dev.oribi.text.jinja;

import java.util.ArrayList;
import java.util.List;

/** Where text is printed: the page, or a string that a macro or a block returns. */
final class Output {
  final StringBuilder text = new StringBuilder();
  /** Begin and end of the generation blocks; only the page's are of use, as a string's place is not known. */
  final List<int[]> generation = new ArrayList<>();
}
