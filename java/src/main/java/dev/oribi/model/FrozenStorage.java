package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import java.util.Map;

/**
 * How frozen weights are held that are not in the storage type of activations.
 *
 * @param layers which linear layers are in 4 bits; null: none
 * @param headIn8bit whether the vocabulary projection is in 8 bits ({@code oribi_int8})
 * @param fp8 whether products with frozen linear layers are in FP8: plain weights are then held so, and the second copies of
 *     those in 4 bits
 * @param blocks of a GGUF file: the type of each weight, which then stays in the file's blocks
 * @param halves whether a GGUF file's weights in 16 bits stay so too, for products that a CPU reads them by
 */
public record FrozenStorage(
    QuantizationConfig layers, boolean headIn8bit, boolean fp8, Map<String, GgmlType> blocks, boolean halves) {
  public FrozenStorage {
    blocks = Map.copyOf(blocks);
  }

  public FrozenStorage(QuantizationConfig layers, boolean headIn8bit) {
    this(layers, headIn8bit, false);
  }

  public FrozenStorage(QuantizationConfig layers, boolean headIn8bit, boolean fp8) {
    this(layers, headIn8bit, fp8, Map.of(), false);
  }

  /**
   * What holds for a run.
   *
   * @param loadIn4bit whether plain layers are to be quantized; a checkpoint in 4 bits stays as it is either way
   */
  public static FrozenStorage of(ModelConfig model, boolean loadIn4bit, boolean headIn8bit) {
    Map<String, GgmlType> blocks = GgufFolder.types(model.raw());
    if (!blocks.isEmpty() && (loadIn4bit || headIn8bit)) {
      throw new OribiException("the weights of a GGUF file stay in its own blocks: leave --load-in-4bit and --head-in-8bit out");
    }
    return new FrozenStorage(QuantizationConfig.of(model, loadIn4bit), headIn8bit, false, blocks, false);
  }

  public FrozenStorage withFp8(boolean on) {
    return new FrozenStorage(layers, headIn8bit, on, blocks, halves);
  }

  /** For generating on a CPU in fp32: the bytes of the weights are what a token's time goes to. */
  public FrozenStorage withHalves(boolean on) {
    return new FrozenStorage(layers, headIn8bit, fp8, blocks, on);
  }

  /** Whether a weight of this type in a GGUF file is held as the file has it; any other is held plain. */
  boolean staysInFile(GgmlType type) {
    return type.packed() || halves && type != GgmlType.F32;
  }
}
