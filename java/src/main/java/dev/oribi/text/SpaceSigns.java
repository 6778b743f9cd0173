package dev.oribi.text;

/** Whether SentencePiece's sign for a space only ever begins a token. */
final class SpaceSigns {
  private SpaceSigns() {}

  /**
   * True if no token has the sign behind another character: then no merge reaches across the beginning of a word, and words can
   * be encoded one by one.
   */
  static boolean begin(Iterable<String> tokens) {
    for (String token : tokens) {
      for (int i = 1; i < token.length(); i++) {
        if (token.charAt(i) == WordRule.SPACE && token.charAt(i - 1) != WordRule.SPACE && TextDecoder.byteToken(token) < 0) {
          return false;
        }
      }
    }
    return true;
  }
}
