package dev.oribi.models.tiny;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Everything that the tiny model is taught besides stories: the tables of {@code facts.txt}, the animals, and small sums.
 *
 * <p>The order of the facts is fixed. Kinds with many facts (which of two animals is bigger) are drawn no more often than
 * {@link #KIND_WEIGHT_LIMIT} others, so that they leave room for the rest.
 */
final class FactBook {
  private static final int KIND_WEIGHT_LIMIT = 80;
  private static final int LARGEST_TERM = 10;
  private static final int CLEAR_SIZE_DIFFERENCE = 3;
  private static final String[] NUMBERS = {
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"
  };

  private final Grammar grammar;
  private final Map<String, List<Fact>> byKind = new LinkedHashMap<>();
  private final int totalWeight;

  FactBook(Grammar grammar, List<Animal> animals) {
    this.grammar = grammar;
    readTables(Grammar.lines("facts.txt"));
    addAnimals(animals);
    addComparisons(animals);
    addArithmetic();
    totalWeight = byKind.values().stream().mapToInt(FactBook::weight).sum();
  }

  /** All facts by their kind, in a fixed order. */
  Map<String, List<Fact>> byKind() {
    return byKind;
  }

  /** Draws a fact: the kind by its weight, then any of that kind. */
  Fact draw(Random random) {
    int at = random.nextInt(totalWeight);
    for (List<Fact> facts : byKind.values()) {
      at -= weight(facts);
      if (at < 0) {
        return facts.get(random.nextInt(facts.size()));
      }
    }
    throw new AssertionError("weights do not add up");
  }

  private static int weight(List<Fact> facts) {
    return Math.min(facts.size(), KIND_WEIGHT_LIMIT);
  }

  // ------------------------------------------------------------------------------------------------ facts.txt

  private void readTables(List<String> lines) {
    String kind = null;
    boolean mirrored = false;
    List<String> questions = new ArrayList<>();
    List<String> statements = new ArrayList<>();
    String answer = null;
    for (String line : lines) {
      if (line.isBlank() || line.startsWith("#")) {
        continue;
      }
      switch (line.charAt(0)) {
        case '@' -> {
          mirrored = line.endsWith(" mirrored");
          kind = line.substring(1).replace(" mirrored", "");
          questions = new ArrayList<>();
          statements = new ArrayList<>();
        }
        case '?' -> questions.add(line.substring(2));
        case '!' -> answer = line.substring(2);
        case '.' -> statements.add(line.substring(2));
        default -> {
          String[] fields = line.split(" \\| ");
          add(kind, questions, answer, statements, fields);
          if (mirrored) {
            add(kind, questions, answer, statements, fields[1], fields[0]);
          }
        }
      }
    }
  }

  private void add(String kind, List<String> questions, String answer, List<String> statements, String... fields) {
    Map<String, String> names = new LinkedHashMap<>();
    for (int i = 0; i < fields.length; i++) {
      names.put(String.valueOf((char) ('a' + i)), fields[i].strip());
    }
    Grammar.Document text = grammar.document(new Random(0), names);
    Fact fact =
        new Fact(
            kind,
            questions.stream().map(text::writeText).toList(),
            text.writeText(answer),
            statements.stream().map(text::writeText).toList());
    byKind.computeIfAbsent(kind, k -> new ArrayList<>()).add(fact);
  }

  // ------------------------------------------------------------------------------------------------ animals, numbers

  private void addAnimals(List<Animal> animals) {
    for (Animal animal : animals) {
      String a = animal.name();
      if (animal.hasSound()) {
        add("sound", List.of("What does a $a say?", "What sound does a $a make?", "Which sound can you hear from a $a?"),
            "A $a says $b.", List.of("A $a says $b.", "$B, says the $a."), a, animal.sound());
      }
      add("home", List.of("Where does a $a live?", "Where is the home of a $a?", "Where can you see a $a?"),
          "A $a lives $b.", List.of("A $a lives $b.", "The home of a $a is $b."), a, animal.lives());
      add("food", List.of("What does a $a eat?", "What does a $a like to eat?", "What is the food of a $a?"),
          "A $a eats $b.", List.of("A $a eats $b.", "A hungry $a looks for $b."), a, animal.eats());
      add("young", List.of("What is a young $a called?", "What do you call a young $a?", "What is the child of a $a?"),
          "A young $a is called a $b.", List.of("A young $a is called a $b.", "A $b is a young $a."), a, animal.young());
      add("legs", List.of("How many legs does a $a have?", "How many legs has a $a got?", "What number of legs does a $a have?"),
          "A $a has $b legs.", List.of("A $a has $b legs.", "A $a has a body with $b legs."), a, animal.legs());
      add("move", List.of("How does a $a move?", "What can a $a do well?", "How does a $a get around?"),
          "A $a can $b.", List.of("A $a can $b.", "You can see a $a $b."), a, animal.moves());
    }
  }

  private void addComparisons(List<Animal> animals) {
    for (Animal big : animals) {
      for (Animal small : animals) {
        if (big.size() - small.size() < CLEAR_SIZE_DIFFERENCE) {
          continue;
        }
        add("bigger",
            List.of("Which is bigger, a $a or a $b?", "Which is bigger, a $b or a $a?", "Is a $a bigger than a $b?"),
            "A $a is bigger than a $b.", List.of("A $a is bigger than a $b."), big.name(), small.name());
        add("smaller",
            List.of("Which is smaller, a $a or a $b?", "Which is smaller, a $b or a $a?", "Is a $b smaller than a $a?"),
            "A $b is smaller than a $a.", List.of("A $b is smaller than a $a."), big.name(), small.name());
      }
    }
  }

  private void addArithmetic() {
    for (int a = 0; a <= LARGEST_TERM; a++) {
      for (int b = 0; b <= LARGEST_TERM; b++) {
        add("sum", List.of("What is $a plus $b?", "How much is $a plus $b?", "Can you add $a and $b?"),
            "$A plus $b is $c.", List.of("$A plus $b is $c."), NUMBERS[a], NUMBERS[b], NUMBERS[a + b]);
        if (b <= a) {
          add("difference", List.of("What is $a minus $b?", "How much is $a minus $b?", "Can you take $b from $a?"),
              "$A minus $b is $c.", List.of("$A minus $b is $c."), NUMBERS[a], NUMBERS[b], NUMBERS[a - b]);
        }
      }
    }
  }
}
