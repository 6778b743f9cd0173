package dev.oribi.train;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.OribiException;
import dev.oribi.data.MicroBatch;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.DType;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.layer.Saving;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.EmitLoss;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.program.View;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The debugging aid for parity with other trainers: the logits, the loss and every gradient of one batch, in fp32, in a
 * file.
 *
 * <p>Gradients are those of the mean loss over the target tokens, under PEFT's names for an adapter and Hugging Face's for a
 * whole model. Dropout is off.
 */
public final class Trace {
  private static final int CHUNK = 1 << 20;

  /**
   * Token ids and labels [batch, time]; labels -100 where masked, as transformers takes them: not shifted.
   *
   * @param time tokens of every row
   */
  record Batch(int[][] inputIds, int[][] labels, int time) {
    static Batch read(Path file) {
      JsonNode root = Json.read(file);
      int[][] ids = matrix(file, root.get("input_ids"), "input_ids");
      int[][] labels = matrix(file, root.get("labels"), "labels");
      if (ids.length != labels.length || ids[0].length != labels[0].length) {
        throw new OribiException(file + ": labels must have the shape of input_ids, [" + ids.length + ", " + ids[0].length + "]");
      }
      return new Batch(ids, labels, ids[0].length);
    }

    private static int[][] matrix(Path file, JsonNode node, String key) {
      String expected = file + ": \"" + key + "\" must be a list of rows of equal length, each a list of whole numbers";
      if (node == null || !node.isArray() || node.isEmpty()) {
        throw new OribiException(expected);
      }
      int[][] rows = new int[node.size()][];
      for (int i = 0; i < rows.length; i++) {
        JsonNode row = node.get(i);
        if (!row.isArray() || row.isEmpty() || row.size() != node.get(0).size()) {
          throw new OribiException(expected);
        }
        rows[i] = new int[row.size()];
        for (int t = 0; t < rows[i].length; t++) {
          if (!row.get(t).canConvertToInt() || !row.get(t).isIntegralNumber()) {
            throw new OribiException(expected);
          }
          rows[i][t] = row.get(t).intValue();
        }
      }
      return rows;
    }

    MicroBatch flat() {
      int n = inputIds.length * time;
      MicroBatch all = new MicroBatch(new int[n], new int[n], new int[n], new int[inputIds.length + 1], new int[inputIds.length]);
      for (int b = 0; b < inputIds.length; b++) {
        for (int t = 0; t < time; t++) {
          int i = b * time + t;
          all.inputIds()[i] = inputIds[b][t];
          all.positions()[i] = t;
          all.targets()[i] = t + 1 < time ? labels[b][t + 1] : MicroBatch.IGNORE;
        }
        all.cuSeqlens()[b + 1] = (b + 1) * time;
        all.rowOfSequence()[b] = b;
      }
      return all;
    }
  }

  private Trace() {}

  /**
   * Runs a batch and writes the file.
   *
   * @param adapter folder of an adapter whose gradients are wanted, or null
   * @param full gradients of every weight; without it and without an adapter, logits and loss alone
   * @param machine where it runs; the caller closes it
   * @param batch JSON with input_ids and labels
   */
  public static void write(Path folder, Path adapter, boolean full, Path batch, Path out, StorageType dtype, Machine machine) {
    if (full && adapter != null) {
      throw new OribiException("give --adapter or --full, not both: an adapter's base is frozen");
    }
    Batch rows = Batch.read(batch);
    ModelConfig config = ModelConfig.read(folder);
    Training training = full ? Training.FULL : adapter == null ? Training.NONE : Training.adapter(LoraConfig.read(adapter));
    DType type = dtype.on(machine, config);
    try (Executor executor = machine.executor()) {
      Decoder model = new Decoder(config, type, training, rows.time);
      MicroBatch flat = rows.flat();
      int n = flat.tokens();
      Emit.Sizes sizes = new Emit.Sizes(n, n, flat.sequences(), rows.time, type, false, 0);
      Inputs inputs = model.inputs(sizes);
      Buffer logits = new Buffer("logits", Lifetime.IO, DType.F32, Rows.TARGETS, n, config.vocabSize());
      Program forward = new Program("logits");
      Program step = new Program("micro_step");
      model.emitLogits(new Emit(forward, sizes, machine.library()), inputs, List.of(), logits);
      if (training.equals(Training.NONE)) {
        model.emitEvaluate(new Emit(step, sizes, machine.library()), inputs, 0, EmitLoss.LOGITS_BUDGET);
      } else {
        model.emitTrain(new Emit(step, sizes, machine.library()), inputs, Collections.nCopies(model.layers().size(), Saving.KEEP), EmitLoss.LOGITS_BUDGET);
      }
      try (Plan plan = new Plan(List.of(forward, step), model.parameters().buffers(), model.loadingBytes())) {
        plan.take(machine.device(), "the trace");
        new Weights(model, machine, plan.shared()).load(folder, adapter);
        double loss = run(machine, executor, inputs, flat, forward, step);
        save(out, machine, model, rows, logits, loss);
      }
    }
  }

  /** Logits of every row, then the step; returns the mean loss. */
  private static double run(
      Machine machine, Executor executor, Inputs inputs, MicroBatch flat, Program forward, Program step) {
    int n = flat.tokens();
    BatchRows rows = BatchRows.of(flat);
    int targets = rows.targets();
    rows.write(machine.device(), inputs, 1.0 / Math.max(1, targets));
    if (targets == 0) {
      throw new OribiException("the batch has no target token: every label is -100");
    }
    executor.run(step, rows.run(machine.library(), targets, 0));
    double loss = machine.device().readDouble(inputs.loss().lossSum().mem()) / targets;
    int[] every = new int[n];
    for (int i = 0; i < n; i++) {
      every[i] = i;
    }
    machine.device().write(inputs.targetRows().mem(), every, n);
    executor.run(forward, rows.run(machine.library(), n, 0));
    return loss;
  }

  private static void save(Path out, Machine machine, Decoder model, Batch rows, Buffer logits, double loss) {
    List<SafetensorsWriter.Tensor> tensors = new ArrayList<>();
    Map<String, Tensor> gradients = new LinkedHashMap<>();
    tensors.add(
        new SafetensorsWriter.Tensor("logits", TensorType.F32, rows.inputIds.length, rows.time, logits.cols()));
    tensors.add(new SafetensorsWriter.Tensor("loss", TensorType.F32, 1));
    for (Tensor t : model.parameters().trainable()) {
      tensors.add(new SafetensorsWriter.Tensor("grad." + t.name(), TensorType.F32, t.shape()));
      gradients.put("grad." + t.name(), t);
    }
    SafetensorsWriter.write(out, tensors, SafetensorsWriter.PT, (t, sink) -> {
      if (t.name().equals("loss")) {
        sink.floats(FloatBuffer.wrap(new float[] {(float) loss}));
      } else {
        put(machine, gradients.get(t.name()), View.of(logits), sink);
      }
    });
  }

  /** @param of whose gradient; null: the logits */
  private static void put(Machine machine, Tensor of, View logits, SafetensorsWriter.Sink sink) throws IOException {
    long elements = of == null ? logits.elements() : of.elements();
    FloatBuffer chunk = FloatBuffer.allocate(CHUNK);
    for (long at = 0; at < elements; at += CHUNK) {
      chunk.clear().limit((int) Math.min(CHUNK, elements - at));
      if (of == null) {
        machine.device().read(logits.mem().slice(4 * at, 4L * chunk.limit()), chunk.array(), 0, chunk.limit());
      } else {
        Weights.read(machine, of, of.part(of.group().grad()), at, chunk);
        chunk.flip();
      }
      sink.floats(chunk);
    }
  }
}
