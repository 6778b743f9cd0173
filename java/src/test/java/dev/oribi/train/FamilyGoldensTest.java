package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Json;
import dev.oribi.io.TensorInfo;
import dev.oribi.model.Machine;
import dev.oribi.model.family.Families;
import dev.oribi.testing.Passed;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * Logits, loss and every gradient against those of Hugging Face transformers and PEFT, for all small models under {@code
 * models/FAMILY/goldens}; {@code models/GOLDENS.md} tells what they are. A family that Oribi does not implement is refused by
 * name.
 */
class FamilyGoldensTest {
  private static final Path MODELS = Path.of("..", "models");

  /** Largest relative error of a tensor in fp32. */
  private static final double TOLERANCE = 1e-5;

  /** How much farther from fp32 a tensor may be than transformers' is, in bfloat16. */
  private static final double FACTOR = 2;

  /** What a rounding to bfloat16 may change. A loss, one number, may be that far off: theirs are at times right by chance. */
  private static final double ROUNDING = 1.0 / 512;

  /** That ours is compared on in bfloat16. */
  private static final int BATCHES = 8;

  /** The standard error of a root of a mean square over so many batches, as a part of it: one tensor alone may be that much farther. */
  private static final double UNCERTAIN = 1 / (2 * Math.sqrt(BATCHES));

  /** The narrowest choice of an expert, in standard deviations of what bfloat16 changes of the difference of two scores. */
  private static final double LEAST_MARGIN = 6;

  @TempDir Path temp;

  /** The cases, each a folder. */
  private static Stream<Path> cases() throws IOException {
    List<Path> all;
    try (Stream<Path> families = Files.list(MODELS)) {
      all = families.map(f -> f.resolve("goldens")).filter(Files::isDirectory).filter(f -> !f.startsWith(MODELS.resolve("goldens-qlora")))
          .flatMap(FamilyGoldensTest::folders).sorted().toList();
    }
    return all.stream();
  }

  /** The cases that Oribi computes. */
  private static Stream<Path> computed() throws IOException {
    return cases().filter(c -> Families.modelTypes().contains(modelType(c)));
  }

  private static Stream<Path> folders(Path folder) {
    try (Stream<Path> all = Files.list(folder)) {
      return all.filter(Files::isDirectory).toList().stream();
    } catch (IOException e) {
      throw new AssertionError(folder.toString(), e);
    }
  }

  private static String modelType(Path golden) {
    return Json.readObject(golden.resolve("model/config.json")).get("model_type").textValue();
  }

  private static DynamicTest named(Path golden, org.junit.jupiter.api.function.Executable body) {
    return DynamicTest.dynamicTest(golden.getName(golden.getNameCount() - 3) + " " + golden.getFileName(), body);
  }

  @TestFactory
  Stream<DynamicTest> inFloat32LogitsLossAndGradientsAreThoseOfTransformers() throws IOException {
    return computed().map(c -> named(c, () -> checkFloat32(c)));
  }

  /**
   * At most twice as far from fp32 as transformers is in the same type. Of a small tensor the error of one batch is a draw, so
   * theirs is the root of the mean square over sixteen batches, ours over the first eight of these. That holds for the tensors of a kind, those
   * of all layers and experts together; for each by itself within the uncertainty that eight batches leave.
   */
  @TestFactory
  Stream<DynamicTest> inBfloat16TheyAreAsCloseAsThoseOfTransformers() throws IOException {
    return computed().filter(c -> Files.exists(c.resolve("bfloat16.json"))).map(c -> named(c, () -> checkBfloat16(c)));
  }

  /** A choice of experts that a rounding could turn would make the comparison in bfloat16 one of different experts. */
  @Test
  void expertsAreChosenByAWideMargin() throws IOException {
    List<Path> routed = cases().filter(c -> Files.exists(c.resolve("bfloat16.json")) && hasExperts(c)).toList();
    assertThat(routed).hasSizeGreaterThan(8);
    for (Path golden : routed) {
      JsonNode routing = Json.readObject(golden.resolve("bfloat16.json")).get("routing");
      assertThat(routing).as(golden.toString()).isNotEmpty().allSatisfy(of -> {
        assertThat(of.get("times").doubleValue()).isGreaterThan(LEAST_MARGIN);
        assertThat(of.get("tokens").intValue()).isGreaterThan(1);
      });
    }
  }

  private static boolean hasExperts(Path golden) {
    JsonNode config = Json.readObject(golden.resolve("model/config.json"));
    return Stream.of("num_experts_per_tok", "num_local_experts").anyMatch(config::hasNonNull);
  }

  @Test
  void thereAreGoldensOfEveryFamily() throws IOException {
    List<String> found = cases().map(FamilyGoldensTest::modelType).distinct().toList();
    assertThat(found).containsAll(Families.modelTypes());
  }

  private void checkFloat32(Path golden) {
    try (Machine machine = TestMachine.open()) {
      for (String what : kinds(golden)) {
        Path found = trace(machine, golden, what, golden.resolve("batch.json"), StorageType.FLOAT32);
        passes(golden, what, "float32", errors(found, golden.resolve(what + ".safetensors")), name -> TOLERANCE);
      }
    }
  }

  private void checkBfloat16(Path golden) throws IOException {
    JsonNode theirs = Json.readObject(golden.resolve("bfloat16.json"));
    List<Path> batches = batches(golden);
    try (Machine machine = TestMachine.open()) {
      for (String what : kinds(golden)) {
        Map<String, Double> squares = new TreeMap<>();
        for (Path batch : batches) {
          // Of the golden's own batch transformers' tensors are there; of the others Oribi's in fp32, which are within 1e-5 of them.
          boolean own = batch.equals(batches.get(0));
          Path exact = own ? golden.resolve(what + ".safetensors") : trace(machine, golden, what, batch, StorageType.FLOAT32);
          errors(trace(machine, golden, what, batch, StorageType.BFLOAT16), exact)
              .forEach((name, error) -> squares.merge(name, error * error / batches.size(), Double::sum));
        }
        squares.replaceAll((name, square) -> Math.sqrt(square));
        ToDoubleFunction<String> twice = name -> {
          double bound = FACTOR * theirs.get(what).get(name).doubleValue();
          return name.equals("loss") ? Math.max(bound, ROUNDING) : bound;
        };
        Map<String, Double> allowed = new TreeMap<>();
        squares.keySet().forEach(name -> allowed.put(name, twice.applyAsDouble(name)));
        Map<String, Double> bounds = byKind(allowed);
        assertThat(byKind(squares)).as(what).allSatisfy((kind, error) -> assertThat(error).as(kind).isLessThanOrEqualTo(bounds.get(kind)));
        passes(golden, what, "bfloat16", squares, name -> twice.applyAsDouble(name) * (1 + UNCERTAIN));
      }
    }
  }

  /** The root of the mean square over the tensors whose names differ in numbers alone. */
  private static Map<String, Double> byKind(Map<String, Double> errors) {
    return errors.entrySet().stream().collect(Collectors.groupingBy(e -> e.getKey().replaceAll("\\.\\d+\\.", ".*."), TreeMap::new,
        Collectors.collectingAndThen(Collectors.averagingDouble(e -> e.getValue() * e.getValue()), Math::sqrt)));
  }

  /** "full" and "adapter", as far as the golden has them. */
  private static List<String> kinds(Path golden) {
    return Stream.of("full", "adapter").filter(what -> Files.exists(golden.resolve(what + ".safetensors"))).toList();
  }

  /** The golden's own batch, and the further ones as files of their own. */
  private List<Path> batches(Path golden) throws IOException {
    List<Path> all = new ArrayList<>(List.of(golden.resolve("batch.json")));
    for (JsonNode more : Json.read(golden.resolve("more-batches.json"))) {
      all.add(Files.writeString(temp.resolve("batch-" + all.size() + ".json"), more.toString()));
    }
    assertThat(all).hasSize(BATCHES);
    return all;
  }

  private Path trace(Machine machine, Path golden, String what, Path batch, StorageType type) {
    boolean full = what.equals("full");
    Path out = temp.resolve(type + ".safetensors");
    Trace.write(golden.resolve("model"), full ? null : golden.resolve("adapter"), full, batch, out, type, machine);
    return out;
  }

  private static void passes(Path golden, String what, String type, Map<String, Double> errors, ToDoubleFunction<String> allowed) {
    List<String> wrong = new ArrayList<>();
    double worst = 0;
    for (Map.Entry<String, Double> e : errors.entrySet()) {
      double bound = allowed.applyAsDouble(e.getKey());
      if (!(e.getValue() <= bound)) {
        wrong.add(String.format("%s: relative error %.3g, allowed %.3g", e.getKey(), e.getValue(), bound));
      }
      worst = Math.max(worst, e.getValue() / bound);
    }
    assertThat(wrong).as("%s: %d of %d tensors are too far off", what, wrong.size(), errors.size()).isEmpty();
    Passed.record(modelType(golden), "golden " + golden.getFileName(), what, type);
    System.out.printf("%s %s %s, %s: at worst %.2g of what is allowed%n", golden.getName(golden.getNameCount() - 3),
        golden.getFileName(), what, type, worst);
  }

  /** The relative error of each tensor of a file, as the norm of the difference over the norm. */
  private static Map<String, Double> errors(Path ours, Path theirs) {
    Map<String, Double> errors = new TreeMap<>();
    try (Checkpoint a = Checkpoint.open(ours);
        Checkpoint b = Checkpoint.open(theirs)) {
      assertThat(a.tensors().keySet()).isEqualTo(b.tensors().keySet());
      for (Map.Entry<String, TensorInfo> e : b.tensors().entrySet()) {
        errors.put(e.getKey(), relativeError(read(a, a.tensors().get(e.getKey())), read(b, e.getValue())));
      }
    }
    return errors;
  }

  private static float[] read(Checkpoint file, TensorInfo t) {
    FloatBuffer values = FloatBuffer.allocate((int) t.elements());
    file.fileOf(t).readFloats(t, 0, values);
    return values.array();
  }

  private static double relativeError(float[] found, float[] expected) {
    assertThat(found).hasSameSizeAs(expected);
    double difference = 0;
    double norm = 0;
    for (int i = 0; i < found.length; i++) {
      difference += Math.pow((double) found[i] - expected[i], 2);
      norm += Math.pow(expected[i], 2);
    }
    return Math.sqrt(difference / Math.max(norm, 1e-30));
  }
}
