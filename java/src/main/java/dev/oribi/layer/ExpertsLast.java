package dev.oribi.layer;

/**
 * How the B of an adapter on fused experts lies in PEFT's file: [out, rank·experts] with the expert as the last index, where the
 * grouped products read [experts·out, rank], expert after expert.
 */
public record ExpertsLast(int experts, int rank) {
  /** In the order of the products, from that of the file. */
  public float[] fromFile(float[] file) {
    return turned(file, false);
  }

  /** In the order of the file, from that of the products. */
  public float[] toFile(float[] memory) {
    return turned(memory, true);
  }

  private float[] turned(float[] from, boolean toFile) {
    float[] to = new float[from.length];
    int out = from.length / (experts * rank);
    int at = 0;
    for (int e = 0; e < experts; e++) {
      for (int o = 0; o < out; o++) {
        for (int j = 0; j < rank; j++, at++) {
          int inFile = (o * rank + j) * experts + e;
          to[toFile ? inFile : at] = from[toFile ? at : inFile];
        }
      }
    }
    return to;
  }
}
