package dev.oribi.data;

import dev.oribi.text.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** What is wrong with a row, or may be, in words for people: the faults that spoil a model without any error. */
final class RowCheck {
  private RowCheck() {}

  /** One line a fault, none for a row that is as it should be. */
  static List<String> faults(Made made, int maxLength, Tokenizer tokenizer, EndTokens ends) {
    List<String> faults = new ArrayList<>();
    if (made.error() != null) {
      return List.of("This row cannot be read: " + made.error());
    }
    Row row = made.row();
    int bos = tokenizer == null ? -1 : tokenizer.bosTokenId().orElse(-1);
    // Some models begin and end a text with one and the same token: in the middle two of it are in order.
    if (bos >= 0 && row.length() > 1 && row.inputIds()[0] == bos && row.inputIds()[1] == bos) {
      faults.add("Double beginning: the row begins with " + tokenizer.token(bos) + " twice; the model was trained to see one.");
    }
    if (row.truncated()) {
      faults.add(String.format(Locale.ROOT, "Cut: the row has %,d tokens, %,d more than the maximum length of %,d; %,d of %,d targets are lost.",
          made.whole().length(), made.whole().length() - maxLength, maxLength, made.whole().targetTokens() - row.targetTokens(),
          made.whole().targetTokens()));
    }
    if (row.targetTokens() == 0) {
      faults.add("Everything is masked: the row teaches nothing and is left out of training"
          + (made.whole().targetTokens() > 0 ? ", since its answer lies beyond the maximum length." : "."));
    } else if (!ends.ids().isEmpty()) {
      addUnended(row, ends, faults);
    }
    return faults;
  }

  /** Answers, which are runs of targets, without a token at which the model stops. */
  private static void addUnended(Row row, EndTokens ends, List<String> faults) {
    int[] labels = row.labels();
    int answers = 0;
    int unended = 0;
    for (int i = 1; i < labels.length; ) {
      if (labels[i] == MicroBatch.IGNORE) {
        i++;
        continue;
      }
      int begin = i;
      while (i < labels.length && labels[i] != MicroBatch.IGNORE) {
        i++;
      }
      answers++;
      boolean cutOff = i == labels.length && row.truncated();
      boolean ended = Arrays.stream(labels, begin, i).anyMatch(ends.ids()::contains);
      unended += ended || cutOff ? 0 : 1;
      if (cutOff && !ended) {
        faults.add("Missing end: the end of the last answer is cut off.");
      }
    }
    if (unended > 0) {
      faults.add("Missing end: " + unended + " of " + answers + (answers == 1 ? " answer" : " answers")
          + (unended == 1 ? " trains no token that ends it (" : " train no token that ends it (")
          + String.join(", ", ends.texts()) + "); a model that never learns one does not stop.");
    }
  }
}
