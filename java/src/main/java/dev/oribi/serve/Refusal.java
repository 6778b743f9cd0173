package dev.oribi.serve;

/** A request that is not answered, with the HTTP status that says so; the message is for the caller. */
final class Refusal extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final int status;

  Refusal(int status, String message) {
    super(message);
    this.status = status;
  }

  int status() {
    return status;
  }
}
