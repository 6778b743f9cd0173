package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.nio.file.Path;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RopeConfigTest {
  @Test
  void plainFrequenciesAreTheGeometricSeries() {
    float[] inv = RopeConfig.plain(10_000).invFreq(8);
    assertThat(inv).containsExactly(new float[] {1f, 0.1f, 0.01f, 0.001f}, within(1e-9f));
    float[] long128 = RopeConfig.plain(500_000).invFreq(128);
    assertThat(long128).hasSize(64);
    for (int i = 0; i < 64; i++) {
      double exact = Math.pow(500_000, -2.0 * i / 128);
      assertThat(Math.abs(long128[i] - exact)).isLessThan(exact * 1e-6);
    }
  }

  @Test
  void linearDividesAllByTheFactor() {
    float[] plain = RopeConfig.plain(10_000).invFreq(64);
    float[] linear = new RopeConfig("linear", 10_000, 4, 1, 1, 0).invFreq(64);
    for (int i = 0; i < plain.length; i++) {
      assertThat(linear[i]).isEqualTo(plain[i] / 4);
    }
  }

  /** Llama 3.1 has factor 8 and heads of 128; Llama 3.2 has factor 32 and heads of 64. */
  @ParameterizedTest
  @CsvSource({"8, 128", "32, 64"})
  void llama3FollowsThePublishedFormula(double factor, int headDim) {
    float[] inv = new RopeConfig("llama3", 500_000, factor, 1, 4, 8192).invFreq(headDim);
    int kept = 0;
    int blended = 0;
    int divided = 0;
    for (int i = 0; i < headDim / 2; i++) {
      double frequency = Math.pow(500_000, -2.0 * i / headDim);
      double turns = 8192 * frequency / (2 * Math.PI); // of this pair over the original context
      double weight = Math.min(1, Math.max(0, (turns - 1) / (4 - 1)));
      double exact = weight * frequency + (1 - weight) * frequency / factor;
      assertThat(Math.abs(inv[i] - exact)).as("pair %d", i).isLessThan(exact * 3e-6);
      kept += weight == 1 ? 1 : 0;
      divided += weight == 0 ? 1 : 0;
      blended += weight > 0 && weight < 1 ? 1 : 0;
    }
    assertThat(kept).isGreaterThan(headDim / 8);
    assertThat(blended).isPositive();
    assertThat(divided).isGreaterThan(headDim / 8);
  }

  /** Mean, sum and maximum that torchtune's tests publish for a cache of cosines and sines of scaled frequencies. */
  @Test
  void llama3GivesThePublishedCache() {
    String data = System.getProperty("oribi.testData", "");
    Assumptions.assumeFalse(data.isBlank(), "oribi.testData is not set");
    JsonNode golden = StreamSupport.stream(Json.read(Path.of(data, "numeric", "torchtune.json")).get("cases").spliterator(), false)
        .filter(c -> c.get("name").textValue().equals("llama3_1_scaled_rope_cache")).findFirst().orElseThrow();
    float[] inv = new RopeConfig("llama3", golden.get("base").doubleValue(), golden.get("scale_factor").doubleValue(),
        golden.get("low_freq_factor").doubleValue(), golden.get("high_freq_factor").doubleValue(), golden.get("original_context").intValue())
        .invFreq(golden.get("dim").intValue());
    int positions = golden.get("max_seq_len").intValue();
    double sum = 0;
    double max = 0;
    for (int position = 0; position < positions; position++) {
      for (float frequency : inv) {
        double angle = position * frequency;
        sum += Math.cos(angle) + Math.sin(angle);
        max = Math.max(max, Math.max(Math.cos(angle), Math.sin(angle)));
      }
    }
    assertThat(sum / (2.0 * positions * inv.length)).isCloseTo(golden.get("expected_mean").doubleValue(), within(golden.at("/atol/mean").doubleValue()));
    assertThat(sum).isCloseTo(golden.get("expected_sum").doubleValue(), within(golden.at("/atol/sum").doubleValue()));
    assertThat(max).isCloseTo(golden.get("expected_max").doubleValue(), within(1e-6));
  }

  @Test
  void unknownTypesAndImpossibleFactorsAreRefused() {
    assertThatThrownBy(() -> new RopeConfig("yarn", 1e4, 2, 1, 1, 0)).isInstanceOf(OribiException.class).hasMessageContaining("yarn");
    assertThatThrownBy(() -> new RopeConfig("llama3", 1e4, 2, 4, 4, 100)).isInstanceOf(OribiException.class).hasMessageContaining("high_freq_factor");
  }
}
