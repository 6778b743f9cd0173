package dev.oribi.text.jinja;

/** A template that cannot be parsed or rendered; the message ends with the line of the template. */
public final class TemplateException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  TemplateException(String message) {
    super(message);
  }

  TemplateException(String message, int line) {
    super(message + " (line " + line + " of the template)");
  }
}
