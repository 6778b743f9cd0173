package dev.oribi.models.tiny;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class InstructionGeneratorTest {
  private static final Path COMMITTED = Path.of("tiny", "instruct");
  private static final long SEED = 1; // as make.sh says

  @Test
  void committedFilesAreTheGeneratorsOutput(@TempDir Path folder) throws IOException {
    InstructionGenerator.write(folder, SEED);
    for (String name : List.of("train.jsonl", "heldout.jsonl")) {
      assertThat(Files.readString(COMMITTED.resolve(name))).as(name).isEqualTo(Files.readString(folder.resolve(name)));
    }
  }

  @Test
  void seedDecides() {
    assertThat(InstructionGenerator.generate(2)).isEqualTo(InstructionGenerator.generate(2));
    assertThat(InstructionGenerator.generate(2).train()).isNotEqualTo(InstructionGenerator.generate(3).train());
  }

  @Test
  void heldOutQuestionsAndFactsAreNotTrained() {
    InstructionGenerator.Rows rows = InstructionGenerator.generate(SEED);
    Set<String> questions = rows.train().stream().map(InstructionGenerator.Row::question).collect(Collectors.toSet());
    Set<String> answers = rows.train().stream().map(InstructionGenerator.Row::answer).collect(Collectors.toSet());
    Set<String> aboutOri = aboutOri();
    int newFacts = 0;
    for (InstructionGenerator.Row row : rows.heldOut()) {
      assertThat(questions).doesNotContain(row.question());
      if (!aboutOri.contains(row.answer())) {
        assertThat(answers).doesNotContain(row.answer());
        newFacts++;
      }
    }
    assertThat(rows.train()).hasSizeBetween(400, 800);
    assertThat(rows.heldOut()).hasSize(60);
    assertThat(newFacts).isEqualTo(44);
  }

  @Test
  void everyAnswerIsOneShortSentenceInOrisVoice() {
    InstructionGenerator.Rows rows = InstructionGenerator.generate(SEED);
    Set<String> seen = new HashSet<>();
    for (InstructionGenerator.Row row : rows.train()) {
      assertThat(row.answer()).startsWith("Hop, hop! ").matches("Hop, hop! [A-Z][^.!?]{3,90}\\.");
      assertThat(row.question()).matches("[A-Z].*[.!?]");
      assertThat(seen.add(row.question())).as("asked twice: %s", row.question()).isTrue();
    }
  }

  /** The demonstration asks for the name, and else only what the set holds out. */
  @Test
  void promptsAreHeldOutButForTheName() throws IOException {
    List<String> prompts = Files.readAllLines(COMMITTED.resolve("prompts.txt"));
    assertThat(prompts).hasSizeBetween(4, 5).contains("What is your name?");
    List<String> heldOut =
        InstructionGenerator.generate(SEED).heldOut().stream().map(InstructionGenerator.Row::question).toList();
    assertThat(prompts).filteredOn(prompt -> !prompt.equals("What is your name?")).isSubsetOf(heldOut);
  }

  private static Set<String> aboutOri() {
    return Grammar.lines("ori.txt").stream()
        .filter(line -> line.startsWith("! "))
        .map(line -> InstructionGenerator.OPENING + line.substring(2))
        .collect(Collectors.toSet());
  }
}
