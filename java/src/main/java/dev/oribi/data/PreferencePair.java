package dev.oribi.data;

import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Two answers to one prompt, of which one was preferred: each a row with the prompt, which is masked, and the answer.
 *
 * @param chosen the better one
 * @param rejected the other
 */
public record PreferencePair(Row chosen, Row rejected) {

  /** Reads pairs: rows with {@code chosen} and {@code rejected}, in the order of the files. Any other row is an error. */
  public static List<PreferencePair> load(List<Path> paths, DataOptions options, Tokenizer tokenizer, ChatTemplate template) {
    RowMaker maker = new RowMaker(options, tokenizer, template);
    List<PreferencePair> pairs = new ArrayList<>();
    for (Path file : DataFiles.resolve(paths, DataFiles.Part.TRAIN)) {
      RecordReader.read(file, options.columns(), record -> pairs.add(maker.pair(record)));
    }
    return pairs;
  }
}
