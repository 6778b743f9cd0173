package dev.oribi.gguf;

/**
 * The order of rows of queries and keys in a file of architecture llama.
 *
 * <p>Hugging Face's rotation pairs channel i with i + D/2 of a head of D; llama.cpp's pairs 2i with 2i + 1. So the rows of
 * each head change places, in the weight as in B of an adapter, and products stay the same but for that order. Blocks lie
 * along rows: a row moves as its bytes are, quantized or not.
 *
 * @param heads heads of the tensor; 0: the order is the same
 * @param headDim rows of a head
 */
public record RowOrder(int heads, int headDim) {
  public static final RowOrder SAME = new RowOrder(0, 0);

  public boolean same() {
    return heads == 0;
  }

  /** The row of Hugging Face's tensor that stands at {@code row} in the file. */
  public long modelRow(long row) {
    if (same()) {
      return row;
    }
    long head = row / headDim;
    long inHead = row % headDim;
    return head * headDim + inHead % 2 * (headDim / 2) + inHead / 2;
  }

  /** The row of the file that holds {@code row} of Hugging Face's tensor. */
  public long fileRow(long row) {
    if (same()) {
      return row;
    }
    long head = row / headDim;
    long inHead = row % headDim;
    int half = headDim / 2;
    return head * headDim + inHead % half * 2 + inHead / half;
  }
}
