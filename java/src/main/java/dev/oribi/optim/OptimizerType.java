package dev.oribi.optim;

import java.util.Locale;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** How AdamW's moments are stored, by Hugging Face's names. The mathematics is the same. */
public enum OptimizerType {
  /** In fp32: eight bytes for each value that learns. */
  ADAMW_TORCH,
  /** In 8 bits, block by block of 256 as bitsandbytes does: a little more than two bytes. */
  ADAMW_8BIT;

  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }

  /** Reads a name; {@code adamw_bnb_8bit} is Hugging Face's other name for {@code adamw_8bit}. */
  public static final class Converter implements ITypeConverter<OptimizerType> {
    @Override
    public OptimizerType convert(String name) {
      return switch (name.toLowerCase(Locale.ROOT)) {
        case "adamw_torch" -> ADAMW_TORCH;
        case "adamw_8bit", "adamw_bnb_8bit" -> ADAMW_8BIT;
        default -> throw new TypeConversionException("'" + name + "' is none of adamw_torch, adamw_8bit, adamw_bnb_8bit");
      };
    }
  }
}
