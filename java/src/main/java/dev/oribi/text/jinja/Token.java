package dev.oribi.text.jinja;

/**
 * A piece of the source.
 *
 * @param text the text between tags, a name, an operator, the digits of a number, or a string's value
 * @param line line on which it begins, from 1
 */
record Token(Kind kind, String text, int line) {
  enum Kind { DATA, BLOCK_BEGIN, BLOCK_END, VARIABLE_BEGIN, VARIABLE_END, NAME, STRING, INTEGER, FLOAT, OPERATOR, END }

  boolean is(Kind wanted, String wantedText) {
    return kind == wanted && text.equals(wantedText);
  }

  @Override
  public String toString() {
    return kind == Kind.END ? "the end of the template" : "'" + text + "'";
  }
}
