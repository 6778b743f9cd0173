package dev.oribi.text.jinja;

import dev.oribi.text.jinja.Token.Kind;
import java.util.List;
import java.util.Locale;

/** A place in the list of tokens. */
final class Tokens {
  private final List<Token> list;
  private int at;

  Tokens(List<Token> list) {
    this.list = list;
  }

  Token peek() {
    return peek(0);
  }

  /** A token further on; behind the last one, the last one. */
  Token peek(int ahead) {
    return list.get(Math.min(at + ahead, list.size() - 1));
  }

  Token next() {
    Token token = peek();
    at = Math.min(at + 1, list.size() - 1);
    return token;
  }

  /** Takes the next token if it is the wanted one. */
  boolean take(Kind kind, String text) {
    boolean found = peek().is(kind, text);
    if (found) {
      next();
    }
    return found;
  }

  /** Takes the next token, which must be of the kind and, unless null, have the text. */
  Token expect(Kind kind, String text) {
    Token token = peek();
    if (token.kind() != kind || (text != null && !token.text().equals(text))) {
      String wanted = text != null ? "'" + text + "'" : "a " + kind.name().toLowerCase(Locale.ROOT);
      throw new TemplateException("Expected " + wanted + " but found " + token, token.line());
    }
    return next();
  }
}
