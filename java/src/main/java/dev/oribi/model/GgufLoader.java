package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgufModel;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.program.View;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.Arrays;

/** Fills weights from a GGUF file: those that the model holds in the file's blocks as they are, all others as numbers. */
final class GgufLoader {
  private static final int PIECE = 1 << 20;
  private static final int BYTES = 16 << 20;

  private final GgufModel files;
  private final Machine machine;

  GgufLoader(GgufModel files, Machine machine) {
    this.files = files;
    this.machine = machine;
  }

  /** @param name by which the file's tensor is found, Hugging Face's */
  void load(String name, Tensor t) {
    GgufTensor from = files.tensor(name);
    if (!Arrays.equals(from.shape(), t.shape())) {
      throw new OribiException(files.file().file() + ": tensor " + from + " has another shape than the " + Arrays.toString(t.shape())
          + " that the file's sizes ask for");
    }
    if (t.nf4() != null || t.int8() != null) {
      throw new OribiException(files.file().file() + " is a GGUF file, whose weights stay as the file has them: leave --load-in-4bit and"
          + " --head-in-8bit out");
    }
    if (t.ggml() != null) {
      copy(name, from, t);
      return;
    }
    View to = t.trainable() ? t.part(t.group().value()) : t.value();
    int cols = Math.toIntExact(from.cols());
    int rows = Math.max(1, PIECE / cols);
    FloatBuffer chunk = FloatBuffer.allocate(rows * cols);
    for (long row = 0; row < from.rows(); row += rows) {
      chunk.clear().limit((int) Math.min(rows, from.rows() - row) * cols);
      files.readRows(name, row, chunk);
      Weights.write(machine, to.mem(), to.type(), row * cols, chunk.flip());
    }
  }

  /** Rows move as their bytes are, some at a time, in the order that the model has them. */
  private void copy(String name, GgufTensor from, Tensor t) {
    if (from.type() != t.ggml().type()) {
      throw new OribiException(files.file().file() + ": tensor " + from + " is not in the type " + t.ggml().type() + " that was planned");
    }
    int bytes = Math.toIntExact(from.type().bytes(from.cols()));
    int rows = (int) Math.min(from.rows(), Math.max(1, BYTES / bytes));
    ByteBuffer chunk = ByteBuffer.allocateDirect(rows * bytes);
    for (long row = 0; row < from.rows(); row += rows) {
      int n = (int) Math.min(rows, from.rows() - row);
      chunk.clear();
      for (int i = 0; i < n; i++) {
        chunk.put(files.row(name, row + i));
      }
      machine.device().write(t.ggml().place(row, n), chunk.flip());
    }
  }
}
