package dev.oribi.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class JsonTest {
  @TempDir Path folder;

  @Test
  void errorsNameFileLineAndColumn() throws IOException {
    Path file = Files.writeString(folder.resolve("c.json"), "{\n  \"a\": 1,\n  b\n}");
    assertThatThrownBy(() -> Json.read(file)).isInstanceOf(OribiException.class).hasMessageContaining(file + ", line 3 column")
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
    assertThatThrownBy(() -> Json.read(folder.resolve("none.json"))).hasMessage(folder.resolve("none.json") + ": no such file.");
    assertThatThrownBy(() -> Json.read(folder)).isInstanceOf(OribiException.class);
    assertThatThrownBy(() -> Json.readObject(Files.writeString(folder.resolve("l.json"), "[1]"))).hasMessageContaining("expected a JSON object, found a list");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", " ", "{\"a\":1,\"a\":2}", "{} {}", "[1,]", "{'a':1}", "NaN", "// x\n1", "01", "\"\\x\""})
  void whatIsNotStrictJsonIsRefused(String text) {
    assertThatThrownBy(() -> Json.parse(text, "here")).isInstanceOf(OribiException.class).hasMessageStartingWith("here");
  }

  @Test
  void depthAndEncodingAreBounded() {
    assertThatThrownBy(() -> Json.parse("[".repeat(1_000_000), "here")).isInstanceOf(OribiException.class);
    assertThat(Json.parse("[".repeat(Json.MAX_DEPTH) + "]".repeat(Json.MAX_DEPTH), "here").isArray()).isTrue();
    assertThatThrownBy(() -> Json.parse("{}".getBytes(StandardCharsets.UTF_16LE), "here")).isInstanceOf(OribiException.class);
    assertThatThrownBy(() -> Json.parse(new byte[] {'"', (byte) 0xc0, (byte) 0x80, '"'}, "here")).hasMessageContaining("is not UTF-8");
  }

  @Test
  void prettyTextIsSortedAndIndentedByTwo() {
    assertThat(Json.pretty(Json.parse("{\"b\":[1,{\"y\":2,\"x\":[]}],\"a\":{}}", "here"))).isEqualTo("""
        {
          "a": {},
          "b": [
            1,
            {
              "x": [],
              "y": 2
            }
          ]
        }
        """);
  }
}
