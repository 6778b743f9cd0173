package dev.oribi.models.tiny;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

/**
 * Writes the text on which the tiny model is trained: little stories, facts, and questions with answers, in simple English.
 *
 * <p>A document is a story, a list of questions with their answers, a paragraph of facts, a portrait of an animal, a talk in
 * which somebody asks, or a chat in which the assistant tells a story <em>whatever</em> is said to it. The last kind gives the
 * tokens of the chat template a meaning before any fine-tuning, and makes the change that fine-tuning brings plain to see.
 *
 * <p>The same seed gives the same documents on every machine. Not safe for use by several threads.
 */
public final class StoryGenerator {
  /** Tokens of the chat template, as they stand in a document; {@link TokenizerFiles} gives them their ids. */
  static final String USER = "<|user|>";

  static final String ASSISTANT = "<|assistant|>";
  static final String END = "<|end|>";

  private static final String[] GIRLS = {"Mia", "Lily", "Anna", "Zoe", "Emma", "Ruby", "Nora", "Ella", "Rosa", "Amy"};
  private static final String[] BOYS = {"Tim", "Ben", "Max", "Leo", "Sam", "Tom", "Finn", "Jack", "Otto", "Noah"};
  private static final String[] ANIMAL_NAMES = {
    "Pip", "Dot", "Bo", "Fizz", "Coco", "Milo", "Tilly", "Benny", "Luna", "Ollie", "Pepper", "Rusty", "Daisy", "Nibbles", "Ori"
  };
  private static final int HELD_OUT_DOCUMENTS = 300;

  private final Random random;
  private final Grammar grammar = Grammar.resource("stories.txt");
  private final List<Animal> animals = Animal.all();
  private final List<Animal> heroes = animals.stream().filter(Animal::canBeHero).toList();
  private final FactBook facts = new FactBook(grammar, animals);

  public StoryGenerator(long seed) {
    this.random = new Random(seed);
  }

  /** The next document, without any token for its beginning or end. */
  public String next() {
    int share = random.nextInt(100);
    if (share < 36) {
      return story();
    } else if (share < 46) {
      return chat();
    } else if (share < 72) {
      return questions();
    } else if (share < 80) {
      return statements();
    } else if (share < 86) {
      return portrait();
    }
    return talk();
  }

  // ------------------------------------------------------------------------------------------------ kinds of document

  private String story() {
    return cast().write("story");
  }

  /** Somebody says something, and the assistant tells a story. */
  private String chat() {
    String story = story();
    int firstEnd = story.indexOf(". ") + 1;
    int style = random.nextInt(4);
    if (style < 2 && firstEnd > 0) {
      return USER + story.substring(0, firstEnd) + END + ASSISTANT + story.substring(firstEnd + 1) + END;
    }
    String said = style == 2 ? pick(facts.draw(random).questions()) : cast().write("chatRequest");
    return USER + said + END + ASSISTANT + story + END;
  }

  private String questions() {
    StringBuilder text = new StringBuilder();
    int count = 3 + random.nextInt(4);
    for (int i = 0; i < count; i++) {
      Fact fact = facts.draw(random);
      text.append("Question: ").append(pick(fact.questions())).append('\n');
      text.append("Answer: ").append(fact.answer()).append('\n');
    }
    return text.toString();
  }

  private String statements() {
    StringBuilder text = new StringBuilder();
    int count = 4 + random.nextInt(5);
    for (int i = 0; i < count; i++) {
      text.append(i == 0 ? "" : " ").append(pick(facts.draw(random).statements()));
    }
    return text.toString();
  }

  private String portrait() {
    Animal animal = pick(animals);
    Map<String, String> names = new HashMap<>();
    names.put("animalName", animal.name());
    names.put("sound", animal.sound());
    names.put("lives", animal.lives());
    names.put("eats", animal.eats());
    names.put("colour", animal.colour());
    names.put("young", animal.young());
    names.put("legs", animal.legs());
    names.put("moves", animal.moves());
    names.put("look", animal.look());
    return grammar.document(random, names).write(animal.hasSound() ? "portrait" : "portraitQuiet");
  }

  /** A scene in which somebody asks and another one knows. */
  private String talk() {
    Map<String, String> names = castNames();
    for (int i = 1; i <= 3; i++) {
      Fact fact = facts.draw(random);
      names.put("question" + i, pick(fact.questions()));
      String answer = fact.answer();
      names.put("answer" + i, answer.substring(0, answer.length() - 1));
    }
    return grammar.document(random, names).write("talk");
  }

  // ------------------------------------------------------------------------------------------------ who is in it

  private Grammar.Document cast() {
    return grammar.document(random, castNames());
  }

  /** Binds the names that the grammar leaves to us: a hero and a friend. */
  private Map<String, String> castNames() {
    Map<String, String> names = new HashMap<>();
    String hero = addPerson(names, "hero", "");
    String kind = names.remove("heroKind");
    names.put("kind", kind);
    names.put("heroKindA", "a " + kind);
    String friend;
    do {
      friend = addPerson(names, "friend", "f");
    } while (friend.equals(hero) || names.get("friendKind").equals(kind));
    return names;
  }

  private String addPerson(Map<String, String> names, String role, String prefix) {
    boolean animal = random.nextInt(100) < 55;
    boolean girl = random.nextBoolean();
    Animal species = pick(heroes);
    String kind = animal ? species.name() : girl ? "girl" : "boy";
    String name = animal ? pick(ANIMAL_NAMES) : pick(girl ? GIRLS : BOYS);
    List<String> looks = animal ? List.of("little", "little", "young", species.look(), species.colour()) : List.of("little");
    names.put(role, name);
    names.put(role + "Kind", kind);
    names.put(role + "Intro", "a " + pick(looks) + " " + kind + (random.nextBoolean() ? " named " : " called ") + name);
    if (role.equals("hero")) {
      names.put("theHero", "the " + (random.nextBoolean() ? "little " : "") + kind);
      names.put("home", animal ? species.home() : pick(List.of("house", "cottage", "hut", "cabin")));
      names.put("eats", animal ? species.eats() : pick(List.of("pancakes", "soup", "apple pie", "noodles", "cherries")));
    }
    names.put(prefix + "he", girl ? "she" : "he");
    names.put(prefix + "him", girl ? "her" : "him");
    names.put(prefix + "his", girl ? "her" : "his");
    names.put(prefix + "himself", girl ? "herself" : "himself");
    return name;
  }

  private <T> T pick(List<T> list) {
    return list.get(random.nextInt(list.size()));
  }

  private String pick(String[] list) {
    return list[random.nextInt(list.length)];
  }

  // ------------------------------------------------------------------------------------------------ command line

  /**
   * Writes {@code train.jsonl} and {@code heldout.jsonl}, a document {@code {"text": ...}} a line; no held-out document is
   * among those to train on.
   *
   * @param args folder, megabytes of text to train on, seed
   */
  public static void main(String[] args) throws IOException {
    if (args.length != 3) {
      System.err.println("Usage: StoryGenerator <out-folder> <megabytes> <seed>");
      System.exit(2);
    }
    write(Path.of(args[0]), (long) (Double.parseDouble(args[1]) * 1e6), Long.parseLong(args[2]));
  }

  /** As {@link #main}; {@code bytes} counts the UTF-8 text to train on. */
  static void write(Path folder, long bytes, long seed) throws IOException {
    Files.createDirectories(folder);
    StoryGenerator generator = new StoryGenerator(seed);
    ObjectMapper json = new ObjectMapper();
    Set<String> heldOut = new LinkedHashSet<>();
    while (heldOut.size() < HELD_OUT_DOCUMENTS) {
      heldOut.add(generator.next());
    }
    try (BufferedWriter out = Files.newBufferedWriter(folder.resolve("heldout.jsonl"))) {
      for (String text : heldOut) {
        out.write(json.writeValueAsString(Map.of("text", text)) + "\n");
      }
    }
    try (BufferedWriter out = Files.newBufferedWriter(folder.resolve("train.jsonl"))) {
      for (long written = 0; written < bytes; ) {
        String text = generator.next();
        if (!heldOut.contains(text)) {
          out.write(json.writeValueAsString(Map.of("text", text)) + "\n");
          written += text.getBytes(StandardCharsets.UTF_8).length;
        }
      }
    }
  }
}
