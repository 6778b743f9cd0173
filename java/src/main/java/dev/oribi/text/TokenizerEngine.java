package dev.oribi.text;

/** What does the work of a {@link Tokenizer}: text to ids and back. Safe for use by many threads. */
interface TokenizerEngine extends AutoCloseable {
  /**
   * The tokens of a text.
   *
   * @param special whether to add the tokens that belong around every text
   * @param offsets whether {@code begin} and {@code end} are wanted; without, they are empty
   */
  Encoding encode(String text, boolean special, boolean offsets);

  /** The text of ids, all of which are in the vocabulary. */
  String decode(int[] ids, boolean skipSpecialTokens);

  @Override
  void close();
}
