package dev.oribi.text.jinja;

/**
 * Text that {@code safe} or {@code escape} marked as HTML. Joined to plain text with {@code +} it escapes that text, as
 * Python's markupsafe does; templates of real models depend on it, though none prints HTML. All else sees plain text.
 */
record Markup(String text) {

  static Markup escape(String s) {
    return new Markup(s.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;").replace("\"", "&#34;"));
  }
}
