package dev.oribi.model;

import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Plan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Writes a model folder in 4 bits from another folder; one that is in 4 bits already is written as it is. */
public final class Quantizer {
  private Quantizer() {}

  /**
   * Reads {@code from} and writes {@code to}, with the tokenizer.
   *
   * @param machine where it is computed; the whole model has room there
   * @throws IOException if the disk is full or refuses
   */
  public static void write(Path from, Path to, Machine machine) throws IOException {
    ModelConfig config = ModelConfig.read(from);
    // fp32 holds whatever the plain tensors are, so that they are written as they were.
    Decoder model = new Decoder(config, DType.F32, Training.NONE, QuantizationConfig.of(config, true), 1);
    List<Buffer> held = new ArrayList<>(model.parameters().buffers());
    model.ropeTables().values().forEach(t -> held.addAll(List.of(t.cos(), t.sin())));
    try (Plan plan = new Plan(List.of(), held, model.loadingBytes())) {
      plan.take(machine.device(), "quantizing");
      Weights weights = new Weights(model, machine, plan.shared());
      weights.load(from, null);
      new ModelFiles(model, weights, from).write(to);
    }
  }
}
