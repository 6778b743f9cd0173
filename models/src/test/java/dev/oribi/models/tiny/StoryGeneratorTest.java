package dev.oribi.models.tiny;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StoryGeneratorTest {
  @Test
  void sameSeedSameBytes(@TempDir Path folder) throws IOException {
    StoryGenerator.write(folder.resolve("a"), 100_000, 3);
    StoryGenerator.write(folder.resolve("b"), 100_000, 3);
    StoryGenerator.write(folder.resolve("c"), 100_000, 4);
    for (String name : List.of("train.jsonl", "heldout.jsonl")) {
      String first = Files.readString(folder.resolve("a").resolve(name));
      assertThat(Files.readString(folder.resolve("b").resolve(name))).isEqualTo(first);
      assertThat(Files.readString(folder.resolve("c").resolve(name))).isNotEqualTo(first);
    }
    List<String> trained = texts(folder.resolve("a").resolve("train.jsonl"));
    assertThat(texts(folder.resolve("a").resolve("heldout.jsonl"))).doesNotContainAnyElementsOf(trained);
  }

  private static List<String> texts(Path file) throws IOException {
    List<String> texts = new ArrayList<>();
    for (String line : Files.readAllLines(file)) {
      texts.add(new ObjectMapper().readTree(line).required("text").textValue());
    }
    return texts;
  }

  @Test
  void textIsCleanVariedAndSimple() {
    StoryGenerator generator = new StoryGenerator(11);
    Set<String> words = new HashSet<>();
    Set<String> documents = new HashSet<>();
    for (int i = 0; i < 4000; i++) {
      String text = generator.next();
      documents.add(text);
      String plain = text.replaceAll("<\\|(user|assistant|end)\\|>", "\n");
      assertThat(plain).as("no notation is left").doesNotContainPattern("[$\\[\\]()|<>{}]");
      assertThat(plain).as("spaces, commas").doesNotContainPattern("  | [.,!?]|[.,!?],");
      assertThat(plain).as("articles").doesNotContainPattern("\\b[Aa] [aeio][a-z]|\\b[Aa]n (?!hour)[^aeiouA-Z]");
      assertThat(plain).as("sentences begin with a capital").doesNotContainPattern("[a-z][.!?] [a-z]");
      for (String word : plain.toLowerCase().split("[^a-z']+")) {
        words.add(word);
      }
    }
    assertThat(documents).hasSizeGreaterThan(3950);
    assertThat(words).hasSizeBetween(1000, 1600);
  }

  @Test
  void factsAreDistinctAndSumsAreRight() {
    Map<String, List<Fact>> facts = new FactBook(Grammar.resource("stories.txt"), Animal.all()).byKind();
    assertThat(facts.get("sum")).hasSize(121).anyMatch(f -> f.answer().equals("Seven plus eight is fifteen."));
    assertThat(facts.get("difference")).hasSize(66).anyMatch(f -> f.answer().equals("Nine minus four is five."));
    assertThat(facts.get("bigger")).allMatch(f -> !f.answer().matches("An ant is bigger .*"));
    assertThat(facts.get("opposite")).anyMatch(f -> f.answer().equals("The opposite of cold is hot."));
    Set<String> questions = new HashSet<>();
    facts.values().forEach(kind -> kind.forEach(f -> f.questions().forEach(q -> assertThat(questions.add(q)).as(q).isTrue())));
  }

  @Test
  void everyRuleIsUsedAndEveryReferenceHasItsRule() {
    Grammar grammar = Grammar.resource("stories.txt");
    String all = grammar.rules().values().toString();
    Set<String> roots = Set.of("story", "chatRequest", "portrait", "portraitQuiet", "talk");
    for (String rule : grammar.rules().keySet()) {
      String either = "[" + rule.substring(0, 1) + Grammar.capitalize(rule).charAt(0) + "]" + rule.substring(1);
      assertThat(roots.contains(rule) || all.matches("(?s).*[\\[$]" + either + "\\b.*")).as("rule %s is used", rule).isTrue();
    }
  }

  @Test
  void notation() {
    List<String> lines = List.of("# note", "colour", "  red", "  blue", "long", "  one", "    two");
    Map<String, List<String>> rules = Grammar.parse("t", lines);
    assertThat(rules).containsEntry("colour", List.of("red", "blue")).containsEntry("long", List.of("one two"));
    Grammar.Document document = Grammar.resource("stories.txt").document(new Random(1), Map.of("x", "owl"));
    assertThat(document.writeText("A $x (is|is) a (n|n)ice $x , ( |)$X")).isEqualTo("An owl is a nice owl, Owl");
    assertThat(document.writeText("$toy $toy")).matches("(.+) \\1");
    assertThat(document.writeText("$toy = $toy2")).doesNotMatch("(.+) = \\1");
    assertThatThrownBy(() -> document.writeText("[nothing]")).hasMessageContaining("no rule nothing");
    assertThatThrownBy(() -> document.writeText("(a|b")).hasMessageContaining("without its )");
    assertThatThrownBy(() -> Grammar.parse("t", List.of("  lost"))).hasMessageContaining("t:1");
    assertThatThrownBy(() -> Grammar.parse("t", List.of("a", "  x", "a"))).hasMessageContaining("t:3");
  }
}
