package dev.oribi.text.jinja;

import dev.oribi.text.jinja.Token.Kind;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Source to tokens, with Jinja2's white space rules: a line break after a block tag or comment goes ({@code
 * trim_blocks}), so do blanks before one that stands first on its line ({@code lstrip_blocks}); {@code -} inside a tag
 * takes all white space on that side, {@code +} keeps it; one line break at the very end goes.
 */
final class Lexer {
  private static final Pattern NUMBER = Pattern.compile(
      "0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[0-9a-fA-F])+"
          + "|(?<float>\\d+(?:_\\d+)*(?:(?:\\.\\d+(?:_\\d+)*)?[eE][+-]?\\d+(?:_\\d+)*|\\.\\d+(?:_\\d+)*))|\\d+(?:_\\d+)*");
  private static final Pattern RAW = Pattern.compile("\\{%([-+]?)\\s*raw\\s*(?:(-)%\\}\\s*|%\\})");
  private static final Pattern END_RAW = Pattern.compile("\\{%([-+]?)\\s*endraw\\s*(?:\\+%\\}|-%\\}\\s*|%\\}\\n?)");
  private static final String[] OPERATORS = {
    "//", "**", "==", "!=", ">=", "<=",
    "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".", ":", "|", ",", ";"
  };

  private final String source;
  private final List<Token> tokens = new ArrayList<>();
  private int at;
  private int line = 1;
  private int lineCountedTo;

  private Lexer(String source) {
    this.source = source;
  }

  static List<Token> tokens(String source) {
    String unix = source.replace("\r\n", "\n").replace('\r', '\n');
    Lexer lexer = new Lexer(unix.endsWith("\n") ? unix.substring(0, unix.length() - 1) : unix);
    lexer.run();
    return lexer.tokens;
  }

  private void run() {
    while (at < source.length()) {
      int begin = at;
      int tag = nextTag();
      String text = source.substring(begin, tag < 0 ? source.length() : tag);
      if (tag < 0) {
        addData(text, begin);
        at = source.length();
        break;
      }
      at = tag;
      addData(stripBefore(text, begin), begin);
      readTag();
    }
    add(Kind.END, "", at);
  }

  private int nextTag() {
    for (int i = source.indexOf('{', at); i >= 0; i = source.indexOf('{', i + 1)) {
      char next = i + 1 < source.length() ? source.charAt(i + 1) : ' ';
      if (next == '%' || next == '{' || next == '#') {
        return i;
      }
    }
    return -1;
  }

  /** The text before the tag at {@link #at}, without what the tag takes away from it. */
  private String stripBefore(String text, int begin) {
    char sign = at + 2 < source.length() ? source.charAt(at + 2) : ' ';
    return strippedBefore(text, begin, sign, source.charAt(at + 1) == '{');
  }

  private String strippedBefore(String text, int begin, char sign, boolean variable) {
    if (sign == '-') {
      return Values.stripRight(text);
    }
    if (sign == '+' || variable) {
      return text;
    }
    int lineBegin = text.lastIndexOf('\n') + 1;
    boolean fromLineBegin = lineBegin > 0 || begin == 0 || source.charAt(begin - 1) == '\n';
    return fromLineBegin && Values.strip(text.substring(lineBegin)).isEmpty() ? text.substring(0, lineBegin) : text;
  }

  private void readTag() {
    Matcher raw = RAW.matcher(source).region(at, source.length());
    if (source.startsWith("{#", at)) {
      readComment();
    } else if (raw.lookingAt()) {
      readRaw(raw);
    } else {
      boolean variable = source.charAt(at + 1) == '{';
      add(variable ? Kind.VARIABLE_BEGIN : Kind.BLOCK_BEGIN, source.substring(at, at + 2), at);
      at += 2;
      if (at < source.length() && (source.charAt(at) == '-' || source.charAt(at) == '+')) {
        at++;
      }
      readInside(variable);
    }
  }

  private void readComment() {
    int end = source.indexOf("#}", at + 2);
    if (end < 0) {
      throw new TemplateException("A comment is not closed with #}", lineOf(at));
    }
    at = end + 2;
    skipAfter(end > 0 ? source.charAt(end - 1) : ' ', true);
  }

  /** Skips what the end of a tag takes away from the text behind it. */
  private void skipAfter(char sign, boolean trimBlocks) {
    if (sign == '-') {
      while (at < source.length() && Values.isSpace(source.charAt(at))) {
        at++;
      }
    } else if (trimBlocks && sign != '+' && at < source.length() && source.charAt(at) == '\n') {
      at++;
    }
  }

  private void readRaw(Matcher raw) {
    Matcher end = END_RAW.matcher(source);
    if (!end.find(raw.end())) {
      throw new TemplateException("A raw block is not closed with {% endraw %}", lineOf(at));
    }
    String text = source.substring(raw.end(), end.start());
    char sign = end.group(1).isEmpty() ? ' ' : end.group(1).charAt(0);
    addData(strippedBefore(text, raw.end(), sign, false), raw.end());
    at = end.end();
  }

  private void readInside(boolean variable) {
    String close = variable ? "}}" : "%}";
    int begin = at;
    Deque<Character> open = new ArrayDeque<>();
    while (at < source.length()) {
      char c = source.charAt(at);
      boolean signed = c == '-' || (c == '+' && !variable);
      // Inside brackets a closing tag is just two operators: {{ {'a': {}} }}.
      if (open.isEmpty() && source.startsWith(close, signed ? at + 1 : at)) {
        add(variable ? Kind.VARIABLE_END : Kind.BLOCK_END, close, at);
        at += signed ? 3 : 2;
        skipAfter(signed ? c : ' ', !variable);
        return;
      }
      if (Values.isSpace(c)) {
        at++;
      } else if (c == '\'' || c == '"') {
        readString(c);
      } else if (c >= '0' && c <= '9') {
        readNumber();
      } else if (Character.isUnicodeIdentifierStart(c) || c == '_') {
        readName();
      } else {
        readOperator(open);
      }
    }
    throw new TemplateException("A tag is not closed with " + close, lineOf(begin));
  }

  private void readString(char quote) {
    int begin = at;
    int end = at + 1;
    while (end < source.length() && source.charAt(end) != quote) {
      end += source.charAt(end) == '\\' ? 2 : 1;
    }
    if (end >= source.length()) {
      throw new TemplateException("A string is not closed", lineOf(begin));
    }
    at = end + 1;
    add(Kind.STRING, Values.unescape(source.substring(begin + 1, end), lineOf(begin)), begin);
  }

  private void readNumber() {
    Matcher number = NUMBER.matcher(source).region(at, source.length());
    if (!number.lookingAt()) {
      throw new TemplateException("A number cannot be read", lineOf(at));
    }
    boolean afterDot = source.charAt(at - 1) == '.';
    int end = number.end();
    if (afterDot) {
      // items.0.name: after a dot only an index can stand.
      end = at;
      while (end < source.length() && Character.isDigit(source.charAt(end))) {
        end++;
      }
    }
    Kind kind = !afterDot && number.group("float") != null ? Kind.FLOAT : Kind.INTEGER;
    add(kind, source.substring(at, end).replace("_", ""), at);
    at = end;
  }

  private void readName() {
    int begin = at;
    while (at < source.length() && (Character.isUnicodeIdentifierPart(source.charAt(at)) || source.charAt(at) == '_')) {
      at++;
    }
    add(Kind.NAME, source.substring(begin, at), begin);
  }

  private void readOperator(Deque<Character> open) {
    for (String operator : OPERATORS) {
      if (source.startsWith(operator, at)) {
        char c = operator.charAt(0);
        if (c == '(' || c == '[' || c == '{') {
          open.push(c == '(' ? ')' : c == '[' ? ']' : '}');
        } else if ((c == ')' || c == ']' || c == '}') && (open.isEmpty() || open.pop() != c)) {
          throw new TemplateException("Unexpected '" + c + "'", lineOf(at));
        }
        add(Kind.OPERATOR, operator, at);
        at += operator.length();
        return;
      }
    }
    throw new TemplateException("Unexpected character '" + source.charAt(at) + "'", lineOf(at));
  }

  private void addData(String text, int begin) {
    if (!text.isEmpty()) {
      add(Kind.DATA, text, begin);
    }
  }

  private void add(Kind kind, String text, int begin) {
    tokens.add(new Token(kind, text, lineOf(begin)));
  }

  /** Line of a place in the source; places are asked for in rising order, so that counting stays linear. */
  private int lineOf(int place) {
    for (; lineCountedTo < place; lineCountedTo++) {
      line += source.charAt(lineCountedTo) == '\n' ? 1 : 0;
    }
    return line;
  }
}
