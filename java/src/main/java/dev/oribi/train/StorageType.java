package dev.oribi.train;

import dev.oribi.kernel.DType;
import dev.oribi.model.Machine;
import dev.oribi.model.config.ModelConfig;
import java.util.Locale;

/** How activations and frozen weights are stored. What is trained is always fp32. */
public enum StorageType {
  /** Chosen by the device: float32 on a CPU; on a GPU 16 bits where the model's own weights are. */
  AUTO,
  FLOAT32,
  BFLOAT16,
  FLOAT16;

  /** The type for a model on a device. */
  public DType on(Machine machine, ModelConfig config) {
    return switch (this) {
      case AUTO -> machine.defaultType(config);
      case FLOAT32 -> DType.F32;
      case BFLOAT16 -> DType.BF16;
      case FLOAT16 -> DType.F16;
    };
  }

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
