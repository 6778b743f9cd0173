package dev.oribi.model.family;

import dev.oribi.OribiException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** The families that Oribi implements, by their {@code model_type}. */
public final class Families {
  private static final Map<String, Family> ALL = new LinkedHashMap<>();

  static {
    add(new LlamaFamily());
    add(new MistralFamily());
    add(new Qwen2Family());
    add(new Qwen3Family());
    add(new GemmaFamily());
    add(new Gemma2Family());
    add(new Gemma3Family());
    add(new Phi3Family());
    add(new MixtralFamily());
    add(new Qwen3MoeFamily());
    add(new DeepseekV2Family());
    add(new DeepseekV3Family());
    add(new SmolLm3Family());
  }

  private Families() {}

  private static void add(Family family) {
    ALL.put(family.modelType(), family);
  }

  /** The names that a {@code config.json} may give as its model_type. */
  public static Set<String> modelTypes() {
    return ALL.keySet();
  }

  /** @throws OribiException if there is no such family */
  public static Family of(String modelType) {
    Family family = ALL.get(modelType);
    if (family == null) {
      throw new OribiException("model_type \"" + modelType + "\" is not supported; supported: " + String.join(", ", ALL.keySet()) + ".");
    }
    return family;
  }
}
