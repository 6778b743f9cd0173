package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** The files that safetensors' own tests accept and refuse, with the verdict those tests demand. */
class SafetensorsConformanceTest {
  @TempDir Path folder;

  @TestFactory
  Stream<DynamicTest> verdicts() {
    String data = System.getProperty("oribi.testData", "");
    Assumptions.assumeFalse(data.isBlank(), "oribi.testData is not set");
    JsonNode cases = Json.read(Path.of(data, "safetensors", "conformance.json"));
    assertThat(cases.size()).isGreaterThanOrEqualTo(15);
    return StreamSupport.stream(cases.spliterator(), false)
        .map(c -> DynamicTest.dynamicTest(c.get("name").textValue(), () -> check(c)));
  }

  private void check(JsonNode c) throws IOException {
    Path file = Files.write(folder.resolve(c.get("name").textValue()), Base64.getDecoder().decode(c.get("file_base64").textValue()));
    Throwable thrown = catchThrowable(() -> SafetensorsFile.open(file).close());
    if (c.get("expect").textValue().equals("ok")) {
      assertThat(thrown).isNull();
    } else {
      assertThat(thrown).isInstanceOf(OribiException.class).hasMessageContaining(file.toString());
      assertThat(thrown.getMessage()).doesNotContain("\n").endsWith(".");
    }
  }
}
