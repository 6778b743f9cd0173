package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.io.SafetensorsWriter.Tensor;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CheckpointTest {
  @TempDir Path folder;

  private void shard(String file, String... names) {
    List<Tensor> tensors = Arrays.stream(names).map(n -> new Tensor(n, TensorType.F32, 1)).toList();
    SafetensorsWriter.write(folder.resolve(file), tensors, SafetensorsWriter.PT, (t, sink) -> sink.floats(FloatBuffer.allocate(1)));
  }

  private void index(String weightMap) throws IOException {
    Files.writeString(folder.resolve(Checkpoint.INDEX), "{\"metadata\":{},\"weight_map\":" + weightMap + "}");
  }

  private void refused(String reason) {
    assertThatThrownBy(() -> Checkpoint.open(folder).close()).isInstanceOf(OribiException.class).hasMessageContaining(reason)
        .hasMessageContaining(folder.toString());
  }

  @Test
  void oneFileIsPreferredToShards() throws IOException {
    shard("model.safetensors", "a");
    index("{\"b\":\"missing.safetensors\"}");
    try (Checkpoint c = Checkpoint.open(folder)) {
      assertThat(c.tensors()).containsOnlyKeys("a");
      assertThat(c.fileOf(c.tensor("a")).file()).isEqualTo(folder.resolve("model.safetensors"));
      assertThatThrownBy(() -> c.tensor("b")).isInstanceOf(OribiException.class).hasMessageContaining("has no tensor b");
    }
  }

  @Test
  void tensorsOfAllShardsAreOneMap() throws IOException {
    shard("1.safetensors", "a", "b");
    shard("2.safetensors", "c");
    index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"2.safetensors\"}");
    try (Checkpoint c = Checkpoint.open(folder)) {
      assertThat(c.tensors()).containsOnlyKeys("a", "b", "c");
      assertThat(c.fileOf(c.tensor("c")).file()).isEqualTo(folder.resolve("2.safetensors"));
    }
  }

  @Test
  void anIndexThatLiesIsRefused() throws IOException {
    shard("1.safetensors", "a", "b");
    shard("2.safetensors", "c");
    index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"2.safetensors\"}");
    refused("says that b is in 2.safetensors, but it is in 1.safetensors");
    index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"d\":\"2.safetensors\"}");
    refused("says that d is in 2.safetensors, but no shard has it");
    index("{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}");
    refused("does not list b");
    index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"c\":\"3.safetensors\"}");
    refused("3.safetensors: no such file");
    shard("2.safetensors", "a");
    index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\",\"a2\":\"2.safetensors\"}");
    refused("which 1.safetensors holds too");
    index("{}");
    refused("needs an object weight_map");
    index("[]");
    refused("needs an object weight_map");
  }

  @ParameterizedTest
  @ValueSource(strings = {"\"../1.safetensors\"", "\"/etc/passwd\"", "\"a/b.safetensors\"", "\"..\"", "\".\"", "\"\"", "\"a\\\\b\"", "\"C:x\"",
      "\"x\\u0000\"", "7", "null", "{}"})
  void fileNamesThatLeadElsewhereAreRefused(String name) throws IOException {
    index("{\"a\":" + name + "}");
    refused("must be a plain file name");
  }

  @Test
  void foldersWithoutWeightsSayWhatIsWrong() throws IOException {
    refused("has neither model.safetensors nor model.safetensors.index.json");
    Files.createFile(folder.resolve("pytorch_model.bin"));
    refused("PyTorch pickle");
    assertThatThrownBy(() -> Checkpoint.open(folder.resolve("none"))).isInstanceOf(OribiException.class).hasMessageContaining("no such file");
  }
}
