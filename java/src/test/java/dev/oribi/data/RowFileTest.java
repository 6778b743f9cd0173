package dev.oribi.data;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.io.FileOwner;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;
import net.jqwik.api.constraints.Size;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Rows that are in a file are those that would be in memory. */
class RowFileTest {
  @Property(tries = 300)
  void bytesGiveTheRowBack(@ForAll @Size(min = 1, max = 60) int[] ids, @ForAll @IntRange(min = 0, max = 3) int kind, @ForAll long mask,
      @ForAll boolean truncated, @ForAll String name) {
    int[] labels = kind == 0 ? null : ids.clone();
    for (int i = 0; labels != null && i < labels.length; i++) {
      labels[i] = (mask >> (i % 64) & 1) == 1 ? MicroBatch.IGNORE : kind == 3 ? labels[i] + 1 : labels[i];
    }
    String source = new String(name.getBytes(java.nio.charset.StandardCharsets.UTF_8), java.nio.charset.StandardCharsets.UTF_8);
    Row row = new Row(ids, labels, source, truncated);
    byte[] bytes = RowBytes.write(row);
    assertThat(RowBytes.length(ByteBuffer.wrap(bytes))).isEqualTo(ids.length);
    assertThat(RowBytes.read(ByteBuffer.wrap(bytes))).usingRecursiveComparison().isEqualTo(row);
  }

  private static Path lines(Path folder, int rows) throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < rows; i++) {
      int[] ids = new int[5 + i % 90];
      Arrays.setAll(ids, j -> j);
      ids[1] = i % 1000;
      text.append("{\"input_ids\": ").append(Arrays.toString(ids)).append(i % 3 == 0 ? ", \"labels\": " + Arrays.toString(masked(ids)) : "").append("}\n");
    }
    return Files.writeString(folder.resolve("many.jsonl"), text);
  }

  private static int[] masked(int[] ids) {
    int[] labels = ids.clone();
    labels[0] = MicroBatch.IGNORE;
    return labels;
  }

  /** Twenty times what memory may hold: the same rows, batches and numbers, with and without a cache. */
  @Test
  void setsLargerThanMemoryAreReadFromAFile(@TempDir Path folder) throws IOException {
    Path file = lines(folder, 4000);
    DataOptions options = new DataOptions(80, 0, 2, null);
    Dataset inMemory = Dataset.load(List.of(file), options, null, null);
    Dataset inFile = Dataset.load(List.of(file), options.withMemoryBytes(60_000), null, null);
    assertThat(inMemory.inFile()).isFalse();
    assertThat(inFile.inFile()).isTrue();
    assertSame(inMemory, inFile);
    DataOptions cached = new DataOptions(80, 0, 2, folder.resolve("cache"));
    assertSame(inMemory, Dataset.load(List.of(file), cached.withMemoryBytes(60_000), null, null));
    Dataset again = Dataset.load(List.of(file), cached.withMemoryBytes(60_000), null, null);
    assertThat(again.inFile()).isTrue();
    assertSame(inMemory, again);
    Dataset small = Dataset.load(List.of(file), cached, null, null);
    assertThat(small.inFile()).isFalse();
    assertSame(inMemory, small);
    assertSame(inMemory.split(0.3, 7)[0], again.split(0.3, 7)[0]);
    Batches one = new Batches(inMemory, 4, 80, true, true, 9);
    Batches two = new Batches(again, 4, 80, true, true, 9);
    for (int i = 0; i < one.microBatches(1); i++) {
      assertThat(two.get(1, i)).usingRecursiveComparison().isEqualTo(one.get(1, i));
    }
  }

  private static void assertSame(Dataset a, Dataset b) {
    assertThat(b.report()).isEqualTo(a.report());
    assertThat(b.size()).isEqualTo(a.size());
    for (int i = 0; i < a.size(); i++) {
      assertThat(b.row(i)).usingRecursiveComparison().isEqualTo(a.row(i));
      assertThat(b.length(i)).isEqualTo(a.length(i));
    }
  }

  @Test
  void nothingIsLeftOfAFailedRun(@TempDir Path folder) throws IOException {
    Path file = lines(folder, 500);
    Files.writeString(file, Files.readString(file) + "{\"x\": 1}\n");
    DataOptions options = new DataOptions(80, 0, 2, folder.resolve("cache"));
    assertThatThrownBy(() -> Dataset.load(List.of(file), options, null, null)).hasMessageContaining("many.jsonl:501");
    try (var left = Files.list(folder.resolve("cache"))) {
      assertThat(left).isEmpty();
    }
  }

  @Test
  void whatAKilledRunLeftGoes(@TempDir Path folder) throws IOException {
    Path cache = Files.createDirectories(folder.resolve("cache"));
    String[] self = FileOwner.SELF.split("-");
    Path left = Files.createFile(cache.resolve("oribi-rows-" + self[0] + "-999999999-" + self[2] + "-17.tmp"));
    Path used = Files.createFile(cache.resolve("oribi-rows-" + FileOwner.SELF + "-17.tmp"));
    Dataset.load(List.of(lines(folder, 10)), new DataOptions(80, 0, 2, cache), null, null);
    assertThat(left).doesNotExist();
    assertThat(used).exists();
  }

  @Test
  void aFileThatDisappearsIsNamed(@TempDir Path folder) throws IOException {
    Path file = lines(folder, 500);
    DataOptions options = new DataOptions(80, 0, 2, folder.resolve("cache")).withMemoryBytes(1000);
    Dataset data = Dataset.load(List.of(file), options, null, null);
    List<Path> cached = new ArrayList<>();
    try (var all = Files.list(folder.resolve("cache"))) {
      all.forEach(cached::add);
    }
    Files.write(cached.get(0), new byte[10]);
    assertThatThrownBy(() -> data.row(400)).hasMessageContaining("Cannot read tokenized rows from " + cached.get(0));
  }
}
