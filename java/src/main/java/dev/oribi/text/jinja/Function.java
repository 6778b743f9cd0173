package dev.oribi.text.jinja;

/** A value that can be called: a macro, a method bound to its value, a global function. */
@FunctionalInterface
interface Function {
  Object call(Frame frame, Arguments arguments);
}
