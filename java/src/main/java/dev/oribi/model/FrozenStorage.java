package dev.oribi.model;

import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;

/**
 * How frozen weights are held that are not in the storage type of activations.
 *
 * @param layers which linear layers are in 4 bits; null: none
 * @param headIn8bit whether the vocabulary projection is in 8 bits ({@code oribi_int8})
 * @param fp8 whether products with frozen linear layers are in FP8: plain weights are then held so, and the second copies of
 *     those in 4 bits
 */
public record FrozenStorage(QuantizationConfig layers, boolean headIn8bit, boolean fp8) {
  public FrozenStorage(QuantizationConfig layers, boolean headIn8bit) {
    this(layers, headIn8bit, false);
  }

  /**
   * What holds for a run.
   *
   * @param loadIn4bit whether plain layers are to be quantized; a checkpoint in 4 bits stays as it is either way
   */
  public static FrozenStorage of(ModelConfig model, boolean loadIn4bit, boolean headIn8bit) {
    return new FrozenStorage(QuantizationConfig.of(model, loadIn4bit), headIn8bit);
  }

  public FrozenStorage withFp8(boolean on) {
    return new FrozenStorage(layers, headIn8bit, on);
  }
}
