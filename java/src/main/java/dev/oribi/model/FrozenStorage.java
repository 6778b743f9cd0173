package dev.oribi.model;

import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;

/**
 * How frozen weights are held that are not in the storage type of activations.
 *
 * @param layers which linear layers are in 4 bits; null: none
 * @param headIn8bit whether the vocabulary projection is in 8 bits ({@code oribi_int8})
 */
public record FrozenStorage(QuantizationConfig layers, boolean headIn8bit) {
  /**
   * What holds for a run.
   *
   * @param loadIn4bit whether plain layers are to be quantized; a checkpoint in 4 bits stays as it is either way
   */
  public static FrozenStorage of(ModelConfig model, boolean loadIn4bit, boolean headIn8bit) {
    return new FrozenStorage(QuantizationConfig.of(model, loadIn4bit), headIn8bit);
  }
}
