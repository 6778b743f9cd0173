package dev.oribi.models.tiny;

import java.util.List;

/**
 * An animal of the stories and facts, a row of {@code animals.tsv}.
 *
 * @param sound what it says, or "-" where there is no word for it
 * @param home a noun for its home in a story, without an article
 * @param lives where it lives, with its preposition
 * @param size from 1, an ant, to 12, a whale
 * @param look a word that fits a hero of this kind
 */
record Animal(
    String name,
    String sound,
    String home,
    String lives,
    String eats,
    String colour,
    int size,
    String young,
    String legs,
    String moves,
    String look) {

  boolean hasSound() {
    return !sound.equals("-");
  }

  /** Those that swim all day or are too small to carry a basket make poor heroes. */
  boolean canBeHero() {
    return !moves.equals("swim") && size > 1 && size < 12 || name.equals("duck");
  }

  static List<Animal> all() {
    return Grammar.lines("animals.tsv").stream().filter(line -> !line.startsWith("#")).map(Animal::parse).toList();
  }

  private static Animal parse(String line) {
    String[] f = line.split("\t");
    if (f.length != 11) {
      throw new IllegalStateException("animals.tsv: 11 fields expected, found " + f.length + " in: " + line);
    }
    return new Animal(f[0], f[1], f[2], f[3], f[4], f[5], Integer.parseInt(f[6]), f[7], f[8], f[9], f[10]);
  }
}
