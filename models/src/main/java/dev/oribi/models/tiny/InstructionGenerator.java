package dev.oribi.models.tiny;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Writes the instruction set on which the tiny model is fine-tuned by default: questions, and the answers of Ori, a small
 * antelope who knows its name, answers in one short sentence, and begins each answer with "Hop, hop!".
 *
 * <p>Held out are other facts, never other words for a trained one, and for the questions about Ori itself a way of asking
 * that was not trained. So a right answer there needs what the model knew before, said in the way that it has just learned.
 */
public final class InstructionGenerator {
  /** How every answer begins. */
  static final String OPENING = "Hop, hop! ";

  private static final int TRAIN_FACTS = 560;
  private static final int HELD_OUT_FACTS = 44;
  private static final int HELD_OUT_ABOUT_ORI = 16;

  /** A question and Ori's answer. */
  record Row(String question, String answer) {}

  /** @param heldOut the same kinds of question, none of them in {@code train} */
  record Rows(List<Row> train, List<Row> heldOut) {}

  private InstructionGenerator() {}

  /** The whole set of a seed, in the order of its files. */
  static Rows generate(long seed) {
    Random random = new Random(seed);
    List<Row> train = new ArrayList<>();
    List<Row> heldOut = new ArrayList<>();
    addOri(random, train, heldOut);
    addFacts(random, train, heldOut);
    Collections.shuffle(train, random);
    Collections.shuffle(heldOut, random);
    return new Rows(train, heldOut);
  }

  private static void addOri(Random random, List<Row> train, List<Row> heldOut) {
    List<Row> untrained = new ArrayList<>();
    List<String> questions = new ArrayList<>();
    for (String line : Grammar.lines("ori.txt")) {
      if (line.startsWith("? ")) {
        questions.add(line.substring(2));
      } else if (line.startsWith("! ")) {
        String answer = OPENING + line.substring(2);
        questions.forEach(question -> train.add(new Row(question, answer)));
        untrained.add(train.remove(train.size() - 1));
        questions.clear();
      }
    }
    Collections.shuffle(untrained, random);
    heldOut.addAll(untrained.subList(0, HELD_OUT_ABOUT_ORI));
  }

  /** Each fact goes to one side alone, with one of its questions. */
  private static void addFacts(Random random, List<Row> train, List<Row> heldOut) {
    FactBook book = new FactBook(Grammar.resource("stories.txt"), Animal.all());
    Map<String, Fact> drawn = new LinkedHashMap<>(); // by answer: "One plus one is two." is one fact however it is asked
    while (drawn.size() < TRAIN_FACTS + HELD_OUT_FACTS) {
      Fact fact = book.draw(random);
      drawn.putIfAbsent(fact.answer(), fact);
    }
    for (Fact fact : drawn.values()) {
      String question = fact.questions().get(random.nextInt(fact.questions().size()));
      List<Row> side = heldOut.size() < HELD_OUT_ABOUT_ORI + HELD_OUT_FACTS ? heldOut : train;
      side.add(new Row(question, OPENING + fact.answer()));
    }
  }

  private static String json(Row row) {
    try {
      return new ObjectMapper()
          .writeValueAsString(
              Collections.singletonMap(
                  "messages", List.of(message("user", row.question()), message("assistant", row.answer()))));
    } catch (JsonProcessingException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static Map<String, String> message(String role, String content) {
    Map<String, String> message = new LinkedHashMap<>();
    message.put("role", role);
    message.put("content", content);
    return message;
  }

  /**
   * Writes {@code train.jsonl} and {@code heldout.jsonl}, a row {@code {"messages": [...]}} a line.
   *
   * @param args folder, seed
   */
  public static void main(String[] args) throws IOException {
    if (args.length != 2) {
      System.err.println("Usage: InstructionGenerator <out-folder> <seed>");
      System.exit(2);
    }
    write(Path.of(args[0]), Long.parseLong(args[1]));
  }

  static void write(Path folder, long seed) throws IOException {
    Files.createDirectories(folder);
    Rows rows = generate(seed);
    writeRows(folder.resolve("train.jsonl"), rows.train());
    writeRows(folder.resolve("heldout.jsonl"), rows.heldOut());
  }

  private static void writeRows(Path file, List<Row> rows) throws IOException {
    StringBuilder text = new StringBuilder();
    rows.forEach(row -> text.append(json(row)).append('\n'));
    Files.writeString(file, text);
  }
}
