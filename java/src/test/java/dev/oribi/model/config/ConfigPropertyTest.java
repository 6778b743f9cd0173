package dev.oribi.model.config;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.IntRange;

/** Damaged configuration files are read to a usable record, or refused in one line. */
class ConfigPropertyTest {
  private static final String ADAPTER = """
      {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"],
       "exclude_modules": ".*[.]0[.].*", "use_rslora": true, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"(q|v)_proj": 2.5},
       "init_lora_weights": "gaussian", "modules_to_save": ["lm_head"], "bias": "none", "use_dora": false}""";

  /** Values that a hostile file would try. */
  private static final List<String> VALUES = List.of("null", "true", "0", "-1", "1e999", "1e-300", "9223372036854775808", "\"\"", "[]", "{}",
      "[[[]]]", "{\"a\":{}}", "\"(a*)*b\"", "\"\\u0000\"", "[null]", "[1,\"a\"]");

  @Property(tries = 1500)
  void damagedModelConfigs(@ForAll long seed, @ForAll @IntRange(min = 1, max = 3) int wounds) {
    refusedOrSound(ModelConfigTest.LLAMA_3_2_1B, seed, wounds, json -> {
      ModelConfig config = ModelConfig.parse(json, "config.json");
      assertThat(config.rope().invFreq(config.headDim())).hasSize(config.headDim() / 2).doesNotContain(Float.NaN);
      assertThat(ModelConfig.parse(config.toJson(), "again")).usingRecursiveComparison().ignoringFields("raw").isEqualTo(config);
    });
  }

  @Property(tries = 1500)
  void damagedAdapterConfigs(@ForAll long seed, @ForAll @IntRange(min = 1, max = 3) int wounds) {
    refusedOrSound(ADAPTER, seed, wounds, json -> {
      LoraConfig config = LoraConfig.parse(json, "adapter_config.json");
      config.targets("model.layers.1.self_attn.q_proj");
      assertThat(config.scale("model.layers.1.self_attn.q_proj")).isGreaterThanOrEqualTo(0).isFinite();
      LoraConfig again = LoraConfig.parse(config.toJson(), "again");
      assertThat(again.toJson()).isEqualTo(config.toJson());
    });
  }

  private interface Reader {
    void read(JsonNode json);
  }

  private static void refusedOrSound(String good, long seed, int wounds, Reader reader) {
    Random random = new Random(seed);
    String text = good;
    for (int i = 0; i < wounds; i++) {
      text = damage(text, random);
    }
    try {
      reader.read(Json.parse(text.getBytes(StandardCharsets.ISO_8859_1), "file"));
    } catch (OribiException e) {
      assertThat(e.getMessage().lines()).as(text).hasSize(1);
    }
  }

  /** Replaces the value after some colon, writes a character over another, drops a piece, or cuts the end off. */
  private static String damage(String text, Random random) {
    if (text.length() < 2) {
      return text;
    }
    int at = random.nextInt(text.length());
    int colon = text.indexOf(':', at);
    if (random.nextInt(4) > 0 && colon > 0) {
      int end = Math.max(text.indexOf(',', colon), colon + 1);
      return text.substring(0, colon + 1) + VALUES.get(random.nextInt(VALUES.size())) + text.substring(end);
    }
    char[] chars = text.toCharArray();
    return switch (random.nextInt(3)) {
      case 0 -> {
        chars[at] = (char) random.nextInt(256);
        yield new String(chars);
      }
      case 1 -> text.substring(0, at) + text.substring(Math.min(text.length(), at + random.nextInt(20)));
      default -> new String(Arrays.copyOf(chars, at));
    };
  }
}
