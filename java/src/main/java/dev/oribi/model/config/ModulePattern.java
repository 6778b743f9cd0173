package dev.oribi.model.config;

import dev.oribi.OribiException;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * A regular expression for module paths, from a file that nobody vouched for.
 *
 * <p>Its length is bounded, and so is the work of one match: expressions exist that need years for forty characters.
 */
final class ModulePattern {
  private static final int MAX_LENGTH = 2000;
  private static final int MAX_STEPS = 1_000_000;

  private final Pattern pattern;

  ModulePattern(String regex) {
    if (regex.length() > MAX_LENGTH) {
      throw new OribiException("a regular expression for modules has " + regex.length() + " characters, more than the " + MAX_LENGTH + " allowed.");
    }
    try {
      pattern = Pattern.compile(regex);
    } catch (PatternSyntaxException e) {
      throw new OribiException("\"" + regex + "\" is not a regular expression: " + e.getDescription() + ".", e);
    }
  }

  /** Whether the expression fits the whole path. */
  boolean matches(String path) {
    return pattern.matcher(new Counted(path, path, new int[1])).matches();
  }

  /** Text that counts how often it is looked at. */
  private record Counted(CharSequence text, String path, int[] steps) implements CharSequence {
    @Override
    public char charAt(int index) {
      if (++steps[0] > MAX_STEPS) {
        throw new OribiException("a regular expression for modules takes too long to match " + path + "; simplify it.");
      }
      return text.charAt(index);
    }

    @Override
    public int length() {
      return text.length();
    }

    @Override
    public CharSequence subSequence(int start, int end) {
      return new Counted(text.subSequence(start, end), path, steps);
    }

    @Override
    public String toString() {
      return text.toString();
    }
  }
}
