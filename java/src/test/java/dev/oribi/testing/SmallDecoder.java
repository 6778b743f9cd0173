package dev.oribi.testing;

import dev.oribi.device.Mem;
import dev.oribi.io.Half;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Emit;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.EmitLoss;
import dev.oribi.program.Executor;
import dev.oribi.program.Op;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.stream.IntStream;

/** A decoder with its memory, of which the first ops can be run and looked at. */
public final class SmallDecoder implements AutoCloseable {
  private static final int TOKENS = 4;

  private final Machine machine = TestMachine.open();
  private final Program program = new Program("forward");
  private final Decoder model;
  private final Inputs inputs;
  private final Plan plan;

  public SmallDecoder(ModelConfig config, DType type, int positions) {
    model = new Decoder(config, type, Training.NONE, positions);
    Emit.Sizes sizes = new Emit.Sizes(TOKENS, TOKENS, 1, TOKENS, type, false, 0);
    inputs = model.inputs(sizes);
    model.emitEvaluate(new Emit(program, sizes, machine.library()), inputs, 0, EmitLoss.LOGITS_BUDGET);
    plan = new Plan(List.of(program), model.parameters().buffers(), model.loadingBytes());
    plan.take(machine.device(), "a test");
    new Weights(model, machine, plan.shared()); // fills the rotary tables
  }

  public Decoder model() {
    return model;
  }

  /** Cosines or sines as they stand on the device. */
  public float[] angles(RopeTable table, boolean cosines) {
    Buffer b = cosines ? table.cos() : table.sin();
    float[] values = new float[(int) (b.rows() * b.cols())];
    machine.device().read(b.mem(), values, 0, values.length);
    return values;
  }

  /** The embedding's rows as the first layer gets them, all rows being {@code value}, in bfloat16. */
  public float[] embedded(float value) {
    Tensor table = model.parameters().tensors().stream().filter(t -> t.name().contains("embed_tokens")).findFirst().orElseThrow();
    ByteBuffer rows = ByteBuffer.allocate(Math.toIntExact(2 * table.elements())).order(ByteOrder.nativeOrder());
    while (rows.hasRemaining()) {
      rows.putShort(Half.toBf16(value));
    }
    machine.device().write(table.value().mem(), rows.flip());
    machine.device().write(inputs.ids().mem(), new int[] {1, 2, 3, 0}, TOKENS);
    machine.device().write(inputs.positions().mem(), IntStream.range(0, TOKENS).toArray(), TOKENS);
    machine.device().write(inputs.cuSeqlens().mem(), new int[] {0, TOKENS}, 2);
    Program front = new Program("front");
    for (Op op : program.ops()) {
      front.add(op);
      if (op.kind() == Op.Kind.SCALE) {
        break;
      }
    }
    Op last = front.ops().get(front.ops().size() - 1);
    new Executor().run(front, new Run(machine.library(), TOKENS, TOKENS, 1, TOKENS, 0));
    return bfloat16(last.writes().get(0).mem());
  }

  private float[] bfloat16(Mem mem) {
    ByteBuffer bytes = ByteBuffer.allocate(Math.toIntExact(mem.bytes())).order(ByteOrder.nativeOrder());
    machine.device().read(mem, bytes);
    bytes.rewind();
    float[] values = new float[(int) (mem.bytes() / 2)];
    for (int i = 0; i < values.length; i++) {
      values[i] = Half.fromBf16(bytes.getShort());
    }
    return values;
  }

  @Override
  public void close() {
    plan.close();
    machine.close();
  }
}
