package dev.oribi.data;

import java.util.Locale;

/** How the answers of a conversation are found in its text. */
public enum MaskBy {
  /** By the template's marks where it has them, else by turns, else by roles. */
  AUTO,
  /** What the template writes between {@code {% generation %}} and {@code {% endgeneration %}}. */
  GENERATION,
  /** What is added when the conversation up to a turn grows by the turn. */
  TURNS,
  /** What stands between the head of an answer and the end of its turn, both read off a conversation made for this. */
  ROLES;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
