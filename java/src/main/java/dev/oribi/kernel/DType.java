package dev.oribi.kernel;

/** Storage of a buffer. The first three are those of {@code oribi_dtype}, in its order. */
public enum DType {
  F32(4, "float32"),
  BF16(2, "bfloat16"),
  F16(2, "float16"),
  I32(4, "int32"),
  F64(8, "float64"),
  U8(1, "uint8"),
  /** Codes of {@code oribi_fp8}: numbers only with the scales of their rows. */
  E4M3(1, "float8_e4m3fn");

  private final int bytes;
  private final String label;

  DType(int bytes, String label) {
    this.bytes = bytes;
    this.label = label;
  }

  public int bytes() {
    return bytes;
  }

  /** Hugging Face's name. */
  public String label() {
    return label;
  }

  /** The number that stands for this type in the header. */
  int code() {
    if (ordinal() > F16.ordinal()) {
      throw new IllegalArgumentException(this + " is no storage type of the kernels");
    }
    return ordinal();
  }
}
