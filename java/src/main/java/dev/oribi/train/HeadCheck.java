package dev.oribi.train;

import dev.oribi.data.Dataset;
import dev.oribi.data.MicroBatch;
import dev.oribi.data.Row;
import dev.oribi.gguf.GgufModel;
import dev.oribi.io.Checkpoint;
import dev.oribi.model.AlikeRows;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.text.OneLine;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/** Warns before a training of an adapter whose answers need letters that the frozen head of the model does not know. */
final class HeadCheck {
  private static final String HEAD = "lm_head";

  /** Rows that are looked at, and the most frequent tokens of their answers: together less than half a second for any model. */
  private static final int ROWS = 10_000;
  private static final int TOKENS = 2048;

  /** One row that is like another by chance spoils little, and is not worth a line. */
  private static final int FEW = 3;
  private static final int NAMED = 8;

  private HeadCheck() {}

  /** A line for the user, if there is something to tell. */
  static Optional<String> warning(Path folder, LoraConfig lora, Dataset rows) {
    if (lora.saves(HEAD) || GgufModel.isIn(folder)) {
      return Optional.empty();
    }
    try (Checkpoint weights = Checkpoint.open(folder)) {
      List<Integer> alike = AlikeRows.find(weights, targets(rows));
      return alike.size() < FEW ? Optional.empty() : Optional.of("WARNING: the output head of this model has all but the same weights for "
          + alike.size() + " tokens of the answers" + names(folder, alike) + ": it was never trained on them, stays as it is under an adapter, and"
          + " writes one for another. Add --modules-to-save lm_head, so that it learns them.");
    }
  }

  /** What is to be learned, the most frequent tokens first. */
  private static List<Integer> targets(Dataset rows) {
    int[] counts = new int[0];
    for (int i = 0; i < Math.min(ROWS, rows.size()); i++) {
      Row row = rows.row(i);
      for (int label : row.labels()) {
        if (label != MicroBatch.IGNORE) {
          counts = label < counts.length ? counts : Arrays.copyOf(counts, Math.max(label + 1, 2 * counts.length));
          counts[label]++;
        }
      }
    }
    int[] all = counts;
    return IntStream.range(0, all.length).filter(id -> all[id] > 0).boxed().sorted(Comparator.comparing(id -> -all[id])).limit(TOKENS).toList();
  }

  private static String names(Path folder, List<Integer> ids) {
    if (!Tokenizer.exists(folder)) {
      return "";
    }
    List<String> names = new ArrayList<>();
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      for (int id : ids) {
        String text = tokenizer.decode(new int[] {id}, false).strip();
        if (names.size() < NAMED && !text.isEmpty() && text.indexOf('\ufffd') < 0) {
          names.add(text); // the others are parts of letters, and nothing to show
        }
      }
    }
    return names.isEmpty() ? "" : " (" + OneLine.of(String.join(", ", names)) + (ids.size() > names.size() ? ", ..." : "") + ")";
  }
}
