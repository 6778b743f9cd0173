package dev.oribi.text;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.huggingface.tokenizers.jni.CharSpan;
import dev.oribi.OribiException;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/** Hugging Face's own {@code tokenizers} library, in native code. It reads every {@code tokenizer.json}. */
final class LibraryEngine implements TokenizerEngine {
  static {
    // The library otherwise asks the cloud metadata address of the machine, once a process, to count its users.
    System.setProperty("OPT_OUT_TRACKING", "true");
    // Where it finds an NVIDIA card it would download a build of its own for it; the one in the jar is all we need.
    System.setProperty("RUST_FLAVOR", "cpu");
  }

  private final HuggingFaceTokenizer library;

  private LibraryEngine(HuggingFaceTokenizer library) {
    this.library = library;
  }

  static LibraryEngine open(Path file, byte[] bytes) {
    // Without these two options the library cuts every text at 512 tokens.
    Map<String, String> whole = Map.of("truncation", "false", "padding", "false");
    try {
      return new LibraryEngine(HuggingFaceTokenizer.newInstance(new ByteArrayInputStream(bytes), whole));
    } catch (IOException | RuntimeException e) {
      throw new OribiException("The tokenizer library cannot read " + file + ": " + OneLine.of(String.valueOf(e.getMessage()))
          + "; download the file again.", e);
    }
  }

  @Override
  public Encoding encode(String text, boolean special, boolean offsets) {
    ai.djl.huggingface.tokenizers.Encoding encoding = library.encode(text, special, false);
    int[] ids = toInts(encoding.getIds());
    if (!offsets) {
      return new Encoding(ids, new int[0], new int[0]);
    }
    CharSpan[] spans = encoding.getCharTokenSpans();
    int[] begin = new int[spans.length];
    int[] end = new int[spans.length];
    int[] unit = codePointToUnit(text);
    for (int i = 0; i < spans.length; i++) {
      begin[i] = spans[i] == null ? -1 : unit[spans[i].getStart()];
      end[i] = spans[i] == null ? -1 : unit[spans[i].getEnd()];
    }
    return new Encoding(ids, begin, end);
  }

  /** The library counts code points, Java counts UTF-16 units: entry i is where code point i begins. */
  private static int[] codePointToUnit(String text) {
    int[] unit = new int[text.codePointCount(0, text.length()) + 1];
    for (int i = 0, at = 0; i < unit.length; i++) {
      unit[i] = at;
      at += at < text.length() ? Character.charCount(text.codePointAt(at)) : 0;
    }
    return unit;
  }

  @Override
  public String decode(int[] ids, boolean skipSpecialTokens) {
    long[] wide = new long[ids.length];
    for (int i = 0; i < wide.length; i++) {
      wide[i] = ids[i];
    }
    return library.decode(wide, skipSpecialTokens);
  }

  private static int[] toInts(long[] wide) {
    int[] narrow = new int[wide.length];
    for (int i = 0; i < wide.length; i++) {
      narrow[i] = Math.toIntExact(wide[i]);
    }
    return narrow;
  }

  @Override
  public void close() {
    library.close();
  }
}
