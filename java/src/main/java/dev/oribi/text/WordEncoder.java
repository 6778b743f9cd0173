package dev.oribi.text;

/** The tokens of one word, which depend on nothing but its characters. Safe for use by many threads, each with its own target. */
interface WordEncoder {
  /** Puts the tokens and the bytes that they stand for in place of what the target held. */
  void encode(char[] text, int begin, int end, Merger out);
}
