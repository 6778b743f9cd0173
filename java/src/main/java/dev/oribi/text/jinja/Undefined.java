package dev.oribi.text.jinja;

/** The value of a name that is not there: empty and false, and an error as soon as something is asked of it. */
record Undefined(String name) {
  TemplateException error() {
    return new TemplateException("'" + name + "' is undefined");
  }
}
