package dev.oribi.gguf.family;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgufKeys;
import java.util.List;

/** The families that can be written as GGUF and read from it. */
public final class GgufFamilies {
  /** Of those that share an architecture, a file is read as the first that holds it. */
  private static final List<GgufFamily> ALL = List.of(
      new MixtralGguf(),
      new LlamaGguf("llama"),
      new LlamaGguf("mistral"),
      new Qwen2Gguf(),
      new Qwen3Gguf(),
      new Qwen3MoeGguf(),
      new SmolLm3Gguf(),
      new GemmaGguf(),
      new Gemma2Gguf(),
      new Gemma3Gguf(),
      new Phi3Gguf(),
      new DeepseekGguf("deepseek_v2", false),
      new DeepseekGguf("deepseek_v3", true));

  private GgufFamilies() {}

  /** The {@code model_type}s that there are. */
  public static List<String> modelTypes() {
    return ALL.stream().map(GgufFamily::modelType).toList();
  }

  /** The family of a {@code model_type}; an {@link OribiException} if GGUF or Oribi does not know it. */
  public static GgufFamily ofModelType(String modelType) {
    return ALL.stream().filter(f -> f.modelType().equals(modelType)).findFirst().orElseThrow(() -> new OribiException(
        "models of type " + modelType + " cannot be written as GGUF yet; supported: " + modelTypes()));
  }

  /** The family of a file. */
  public static GgufFamily of(GgufKeys keys) {
    return ALL.stream().filter(f -> f.architecture().equals(keys.architecture()) && f.holds(keys)).findFirst()
        .orElseThrow(() -> keys.refuse("general.architecture \"" + keys.architecture() + "\" is not supported; supported: "
            + ALL.stream().map(GgufFamily::architecture).distinct().toList()));
  }
}
