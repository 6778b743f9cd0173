package dev.oribi.docs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.train.TrainConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;

/**
 * The pages under docs/ are true where that can be checked: the tests that they name exist, links lead somewhere, the list of
 * pages is whole, and the guide has every option of a training run with its default.
 */
class PagesTest {
  private static final Path ROOT = Path.of("..").toAbsolutePath().normalize();
  private static final Path DOCS = ROOT.resolve("docs");
  private static final Pattern TESTS_OF_A_FILE = Pattern.compile("- `([^`]+)`: ((?:`\\w+`(?:,\\s+)?)+)");
  private static final Pattern NAME = Pattern.compile("`(\\w+)`");
  private static final Pattern LINK = Pattern.compile("]\\(([^)#:]+)(?:#[^)]*)?\\)");

  private static List<Path> pages(Path folder) throws IOException {
    try (Stream<Path> all = Files.walk(folder)) {
      return all.filter(p -> p.toString().endsWith(".md")).sorted().toList();
    }
  }

  @Test
  void everyExplanationNamesItsTestsAndTheyExist() throws IOException {
    List<Path> pages = new ArrayList<>(pages(DOCS.resolve("derivations")));
    pages.add(DOCS.resolve("step-program.md"));
    pages.add(DOCS.resolve("known-bugs.md"));
    for (Path page : pages) {
      String text = Files.readString(page);
      assertThat(text).as(page + " ends with its tests").contains("\n## Tests\n");
      String tests = text.substring(text.indexOf("\n## Tests\n"));
      Matcher files = TESTS_OF_A_FILE.matcher(tests);
      int named = 0;
      while (files.find()) {
        String source = Files.readString(ROOT.resolve(files.group(1)));
        Matcher names = NAME.matcher(files.group(2));
        while (names.find()) {
          String declared = files.group(1).endsWith(".cpp") ? "TEST\\(%s\\)" : "(void|Stream<DynamicTest>) %s\\(";
          assertThat(source).as(page.getFileName() + ": " + files.group(1) + " has " + names.group(1))
              .containsPattern(String.format(declared, names.group(1)));
          named++;
        }
      }
      long bullets = tests.lines().filter(line -> line.startsWith("- ")).count();
      assertThat((long) named).as("tests that " + page + " names").isGreaterThanOrEqualTo(Math.max(1, bullets));
    }
  }

  @Test
  void everyLinkLeadsSomewhere() throws IOException {
    List<String> broken = new ArrayList<>();
    for (Path page : pages(DOCS)) {
      Matcher links = LINK.matcher(Files.readString(page));
      while (links.find()) {
        if (!Files.exists(page.resolveSibling(links.group(1)))) {
          broken.add(page.getFileName() + " -> " + links.group(1));
        }
      }
    }
    assertThat(broken).isEmpty();
  }

  @Test
  void theListOfPagesIsWhole() throws IOException {
    String list = Files.readString(DOCS.resolve("README.md"));
    for (Path page : pages(DOCS)) {
      String link = DOCS.relativize(page).toString();
      if (!link.equals("README.md") && !link.startsWith("results/")) {
        assertThat(list).contains("(" + link + ")");
      }
    }
  }

  @Test
  void theGuideHasEveryOptionWithItsDefault() throws IOException {
    List<String> guide = Files.readAllLines(DOCS.resolve("guide.md"));
    for (OptionSpec option : CommandSpec.forAnnotatedObject(new TrainConfig()).options()) {
      String row = "| `" + option.longestName() + "` | ";
      List<String> found = guide.stream().filter(line -> line.startsWith(row)).toList();
      assertThat(found).as("lines of the guide for " + option.longestName()).hasSize(1);
      String shown = found.get(0).split("\\|", -1)[2].strip();
      assertThat(same(option.getValue(), shown)).as(option.longestName() + " is " + option.getValue() + ", not " + shown).isTrue();
    }
  }

  private static boolean same(Object value, String shown) {
    if (value == null || value instanceof Collection<?> list && list.isEmpty()) {
      return shown.isEmpty();
    }
    return value instanceof Number number ? number.doubleValue() == Double.parseDouble(shown) : value.toString().equals(shown);
  }
}
