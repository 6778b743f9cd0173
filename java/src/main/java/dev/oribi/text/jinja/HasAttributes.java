package dev.oribi.text.jinja;

/** A value of the interpreter's own, such as a loop or a namespace, with attributes. */
interface HasAttributes {
  /** The attribute, or an {@link Undefined}. */
  Object attribute(String name);
}
