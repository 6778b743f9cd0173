package dev.oribi.data;

import java.util.Arrays;

/**
 * What became of a record, or of a window of a plain text.
 *
 * @param whole every token, before anything is cut; null if it cannot be read
 * @param row what is trained on, at most as long as allowed; null as {@code whole}
 * @param why why it is left out; null: it is kept
 * @param error what is wrong with a row that cannot be read, its place included; else null
 * @param ends whether the row trains a token at which the model stops
 * @param pair whether it is the chosen answer of a preference pair
 */
record Made(Row whole, Row row, Report.Why why, String error, boolean ends, boolean pair) {

  static Made of(Row whole, int maxLength, EndTokens ends, boolean pair) {
    boolean cut = whole.length() > maxLength;
    Row row = !cut ? whole : new Row(Arrays.copyOf(whole.inputIds(), maxLength),
        whole.labels() == whole.inputIds() ? null : Arrays.copyOf(whole.labels(), maxLength), whole.source(), true);
    Report.Why why = null;
    if (row.targetTokens() == 0) {
      why = whole.length() < 2 ? Report.Why.TOO_SHORT : whole.targetTokens() > 0 ? Report.Why.CUT_AWAY : Report.Why.NO_TARGET;
    }
    return new Made(whole, row, why, null, ends.isLearned(row.labels()), pair);
  }

  static Made unreadable(String error) {
    return new Made(null, null, Report.Why.UNREADABLE, error, false, false);
  }

  String first() {
    return error != null ? error : whole.source();
  }
}
