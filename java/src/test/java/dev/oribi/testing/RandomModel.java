package dev.oribi.testing;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.io.Json;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.model.ModelFiles;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.TensorSpec;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;

/**
 * A model folder of random weights around a tokenizer. Their sizes are such that every part shows in the logits, and that logits
 * lie far apart: the likeliest token is the likeliest by more than rounding.
 */
public final class RandomModel {
  /** Standard deviation of weights that are added to one, or are one without them. */
  private static final double NORM = 0.2;

  /** Of what is added: biases, and the router's bias for the choice. */
  private static final double ADDED = 0.2;

  /** Of a token's channels in the stream, and of logits. */
  private static final double TOKEN = 0.4;
  private static final double LOGITS = 3;

  /** Queries and keys of unit channels would look nearly everywhere at once. */
  private static final double SHARP = 1.5;

  private RandomModel() {}

  /**
   * Writes the folder.
   *
   * @param tokenizer folder of a tokenizer, whose ids are below the configuration's {@code vocab_size}
   * @param config config.json
   */
  public static Path write(Path folder, Path tokenizer, ObjectNode config) throws IOException {
    Files.createDirectories(folder);
    ModelFiles.copyCompanions(tokenizer, folder);
    Json.write(folder.resolve(ModelConfig.FILE), config);
    ModelConfig read = ModelConfig.read(folder);
    boolean onePlus = read.architecture().norm() == NormWeight.ONE_PLUS;
    SafetensorsWriter.writeModel(folder,
        ModelTensors.of(read).stream().map(s -> new SafetensorsWriter.Tensor(s.name(), TensorType.F32, s.shape())).toList(), 1L << 30,
        (t, sink) -> sink.floats(FloatBuffer.wrap(values(new TensorSpec(t.name(), t.shape()), onePlus, read))));
    return folder;
  }

  private static float[] values(TensorSpec spec, boolean onePlus, ModelConfig config) {
    long[] shape = spec.shape();
    boolean vector = shape.length == 1;
    boolean norm = vector && spec.name().endsWith("norm.weight");
    double deviation = norm ? NORM : vector ? ADDED : matrix(spec.name(), shape, config);
    double gain = spec.name().equals(ModelTensors.FINAL_NORM) && config.tieWordEmbeddings() ? lastGain(config) : 1;
    double mean = norm ? onePlus ? gain - 1 : gain : 0;
    Random random = new Random(spec.name().hashCode() * 31L + config.modelType().hashCode());
    float[] values = new float[Math.toIntExact(vector ? shape[0] : shape[0] * shape[1])];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (mean + gain * deviation * random.nextGaussian());
    }
    return values;
  }

  /** Outputs of unit channels from inputs of unit channels; a token of less, so that its own embedding does not outweigh all else. */
  private static double matrix(String name, long[] shape, ModelConfig config) {
    if (name.equals(ModelTensors.EMBEDDING)) {
      return embedding(config);
    }
    double plain = 1 / Math.sqrt(shape[1]);
    boolean sharp = name.contains("q_proj") || name.contains("q_b_proj") || name.endsWith(".gate.weight");
    return name.equals(ModelTensors.LM_HEAD) ? LOGITS * plain : sharp ? SHARP * plain : plain;
  }

  private static double embedding(ModelConfig config) {
    return TOKEN / config.architecture().embeddingScale();
  }

  /** Where the head is the embedding, the last norm makes logits of it that lie as far apart as others. */
  private static double lastGain(ModelConfig config) {
    return LOGITS / (embedding(config) * Math.sqrt(config.hiddenSize()));
  }
}
