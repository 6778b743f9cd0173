package dev.oribi.text.jinja;

/** What one rendering may still use. A template is a program of a stranger's: it must end, and within bounds. */
final class Budget {
  private static final long MAX_STEPS = 5_000_000;
  private static final int MAX_SIZE = 1 << 25;
  private static final long MAX_TOTAL = 1L << 28;
  private static final int MAX_DEPTH = 100;

  private long steps;
  private long total;
  private int depth;
  /** Line of the statement that runs, for messages. */
  int line = 1;

  void step() {
    if (++steps > MAX_STEPS) {
      throw new TemplateException("The template does not end: " + MAX_STEPS + " steps were taken");
    }
  }

  /** Accounts for a string of so many characters before it is made. */
  void allocate(long size) {
    total += size;
    checkSize(total > MAX_TOTAL ? total : size);
  }

  /** A list weighs more than a string of as many characters. */
  void allocateList(long size) {
    allocate(8 * size);
  }

  void checkSize(long size) {
    if (size > MAX_SIZE) {
      throw new TemplateException("The template makes more text than the " + MAX_SIZE + " characters that are allowed");
    }
  }

  void enter() {
    if (++depth > MAX_DEPTH) {
      throw new TemplateException("Macros call each other more than " + MAX_DEPTH + " deep");
    }
  }

  void leave() {
    depth--;
  }
}
