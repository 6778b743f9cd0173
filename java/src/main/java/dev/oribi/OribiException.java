package dev.oribi;

/**
 * What a user can read and act on: one sentence that says what went wrong, where, and what to do.
 *
 * <p>The command line prints the message alone and exits with a code other than 0; {@code --debug} adds the stack trace.
 */
public class OribiException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  public OribiException(String message) {
    super(message);
  }

  public OribiException(String message, Throwable cause) {
    super(message, cause);
  }
}
