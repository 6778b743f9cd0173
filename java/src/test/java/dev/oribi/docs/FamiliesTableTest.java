package dev.oribi.docs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.bench.Shapes;
import dev.oribi.model.family.Families;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;

/**
 * The README's table of families says what {@code docs/results/families.csv} shows: the tests that passed, on a CPU and on a GPU.
 * To renew that file: run the tests named Family* on both, and join both {@code target/families.csv}, sorted, each line once.
 */
class FamiliesTableTest {
  private static final Path ROOT = Path.of("..").toAbsolutePath().normalize();

  private record Line(String modelType, String test, String what, String storage, String device) {}

  private static List<Line> passed() throws IOException {
    List<Line> all = new ArrayList<>();
    for (String line : Files.readAllLines(ROOT.resolve("docs/results/families.csv"))) {
      String[] cells = line.split(",");
      all.add(new Line(cells[0], cells[1], cells[2], cells[3], cells[4]));
    }
    return all;
  }

  @Test
  void theTableIsThatOfTheTestsThatPassed() throws IOException {
    List<Line> passed = passed();
    String readme = Files.readString(ROOT.resolve("README.md"));
    for (String family : Families.modelTypes()) {
      assertThat(readme).as("the README's line of a family must be the one here").contains(row(family, passed));
    }
  }

  private static String row(String family, List<Line> passed) {
    return "| `" + family + "` | " + sizes(family) + " | " + golden(family, passed, "adapter") + " | " + golden(family, passed, "full")
        + " | " + trained(family, passed) + " |\n";
  }

  private static String sizes(String family) {
    return StreamSupport.stream(Shapes.names().spliterator(), false).filter(n -> Shapes.of(n).modelType().equals(family))
        .collect(Collectors.joining(", "));
  }

  /** Goldens in fp32 and in bfloat16 on the CPU; with those on a GPU. */
  private static String golden(String family, List<Line> passed, String what) {
    List<Line> of = passed.stream().filter(l -> l.modelType.equals(family) && l.what.equals(what) && l.test.startsWith("golden ")).toList();
    return count(of, "float32", "cpu") + " + " + count(of, "bfloat16", "cpu") + ", GPU " + count(of, "float32", "gpu") + " + "
        + count(of, "bfloat16", "gpu");
  }

  private static long count(List<Line> lines, String storage, String device) {
    return lines.stream().filter(l -> l.storage.equals(storage) && l.device.equals(device)).distinct().count();
  }

  /** What was trained for 20 steps, saved, loaded and asked for a text. */
  private static String trained(String family, List<Line> passed) {
    List<String> parts = new ArrayList<>();
    for (String what : List.of("lora", "qlora", "full", "scratch")) {
      List<String> where = passed.stream()
          .filter(l -> l.modelType.equals(family) && l.test.startsWith("run ") && l.what.equals(what)).map(Line::device).distinct().sorted().toList();
      if (!where.isEmpty()) {
        parts.add(what + (where.contains("gpu") && where.contains("cpu") ? "" : " (" + where.get(0) + ")"));
      }
    }
    return parts.isEmpty() ? "-" : String.join(", ", parts);
  }
}
