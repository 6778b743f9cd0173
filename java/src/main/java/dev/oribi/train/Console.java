package dev.oribi.train;

import java.io.PrintStream;

/**
 * What a run shows: on a terminal a bar that lives on the last line, elsewhere a plain line a logging step.
 *
 * <p>Whether the output is a terminal, and how wide, is what the launcher found out ({@code oribi.terminal.columns}); a
 * Java program that does not set it gets plain lines.
 */
final class Console {
  /** Clears the line and goes to its beginning (ECMA-48). */
  private static final String CLEAR_LINE = "\r\033[2K";

  private final PrintStream out;
  private final int columns;
  private String bar = "";

  /**
   * @param columns width of the terminal, 0 for plain lines
   */
  Console(PrintStream out, int columns) {
    this.out = out;
    this.columns = columns;
  }

  static Console of(PrintStream out, boolean plain) {
    return new Console(out, plain ? 0 : Integer.getInteger("oribi.terminal.columns", 0));
  }

  /** Text that stays, above the bar. */
  void say(String text) {
    if (columns > 0) {
      out.print(CLEAR_LINE);
    }
    out.println(text);
    out.print(bar);
    out.flush();
  }

  /**
   * Shows where the run stands.
   *
   * @param logging whether this is a logging step: a plain line is written only then, the bar moves always
   */
  void show(Progress progress, boolean logging) {
    if (columns > 0) {
      bar = progress.bar(columns - 1);
      out.print(CLEAR_LINE + bar);
      out.flush();
    } else if (logging) {
      out.println(progress.line());
    }
  }

  /** Leaves the bar where it is and goes on below it. */
  void end() {
    if (!bar.isEmpty()) {
      out.println();
      bar = "";
    }
  }
}
