package dev.oribi.jmh;

/**
 * The model whose sizes the kernels are measured at, large enough to keep the device busy: SmolLM2-135M on a CPU,
 * Llama-3.1-8B on a GPU. {@code -Doribi.device=cuda} chooses the GPU.
 *
 * @param c channels
 * @param f feed-forward size
 * @param h query heads
 * @param kv key and value heads
 * @param d head size
 * @param v vocabulary
 * @param rows rows of the embedding that are looked up: a part of the table, as in a text
 * @param sequence tokens of a packed sequence
 * @param calls of a kernel between two waits for the device: what a call costs the host is hidden, as in a step
 */
record Sizes(long c, int f, int h, int kv, int d, int v, int rows, int sequence, int calls) {
  private static final Sizes CPU = new Sizes(576, 1536, 9, 3, 64, 49152, 4096, 256, 1);
  private static final Sizes GPU = new Sizes(4096, 14336, 32, 8, 128, 128256, 8192, 2048, 20);

  /** Names of the property and of its two values. */
  static final String DEVICE = "oribi.device";

  static String device() {
    return System.getProperty(DEVICE, "cpu");
  }

  static boolean gpu() {
    return device().startsWith("cuda");
  }

  static Sizes current() {
    return gpu() ? GPU : CPU;
  }
}
