package dev.oribi.model;

import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.ModelFiles.Content;
import dev.oribi.program.View;
import dev.oribi.quant.Nf4Format;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.Map;

/** Writes a weight in 4 bits as the six tensors of {@link Nf4Format}; codes and scales go to the file as they are. */
final class Nf4Tensors {
  private static final int CHUNK = 1 << 22;

  private Nf4Tensors() {}

  /**
   * Adds the six tensors and what they hold.
   *
   * @param dtype what bitsandbytes dequantizes to
   */
  static void add(
      Tensor t, String dtype, Weights weights, List<SafetensorsWriter.Tensor> tensors, Map<String, Content> contents) {
    String name = t.name();
    bytes(name, t.nf4().codes(), weights, tensors, contents, t.nf4().codes().elements(), 1);
    bytes(name + Nf4Format.ABSMAX, t.nf4().absmax(), weights, tensors, contents, t.nf4().absmax().elements());
    floats(name + Nf4Format.QUANT_MAP, Nf4Format.nf4(), tensors, contents);
    View nested = t.nf4().absmax2();
    tensors.add(new SafetensorsWriter.Tensor(name + Nf4Format.NESTED_ABSMAX, TensorType.F32, nested.elements()));
    contents.put(name + Nf4Format.NESTED_ABSMAX, sink -> sink.floats(FloatBuffer.wrap(read(nested, weights))));
    floats(name + Nf4Format.NESTED_QUANT_MAP, Nf4Format.dynamicMap(), tensors, contents);
    byte[] state = Nf4Format.state(t.shape(), dtype, read(t.nf4().offset(), weights)[0]);
    tensors.add(new SafetensorsWriter.Tensor(name + Nf4Format.STATE, TensorType.U8, state.length));
    contents.put(name + Nf4Format.STATE, sink -> sink.bytes(ByteBuffer.wrap(state)));
  }

  private static void bytes(
      String name, View from, Weights weights, List<SafetensorsWriter.Tensor> tensors, Map<String, Content> contents,
      long... shape) {
    tensors.add(new SafetensorsWriter.Tensor(name, TensorType.U8, shape));
    contents.put(name, sink -> copy(from, weights, sink));
  }

  private static void copy(View from, Weights weights, SafetensorsWriter.Sink sink) throws IOException {
    ByteBuffer chunk = ByteBuffer.allocateDirect((int) Math.min(CHUNK, from.elements()));
    for (long at = 0; at < from.elements(); at += chunk.capacity()) {
      chunk.clear().limit((int) Math.min(chunk.capacity(), from.elements() - at));
      weights.readBytes(from, at, chunk);
      sink.bytes(chunk.flip());
    }
  }

  private static void floats(
      String name, float[] values, List<SafetensorsWriter.Tensor> tensors, Map<String, Content> contents) {
    tensors.add(new SafetensorsWriter.Tensor(name, TensorType.F32, values.length));
    contents.put(name, sink -> sink.floats(FloatBuffer.wrap(values)));
  }

  private static float[] read(View from, Weights weights) {
    ByteBuffer bytes = ByteBuffer.allocateDirect((int) (4 * from.elements())).order(ByteOrder.nativeOrder());
    weights.readBytes(from, 0, bytes);
    float[] values = new float[(int) from.elements()];
    bytes.flip().order(ByteOrder.nativeOrder()).asFloatBuffer().get(values);
    return values;
  }
}
