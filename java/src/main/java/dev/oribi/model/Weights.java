package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.device.Mem;
import dev.oribi.gguf.GgufModel;
import dev.oribi.gguf.GgufTensor;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.Half;
import dev.oribi.io.SafetensorsFile;
import dev.oribi.io.TensorInfo;
import dev.oribi.io.TensorType;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.layer.Parameters.Group;
import dev.oribi.layer.Parameters.Tensor;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.program.Emit.RopeTable;
import dev.oribi.program.View;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * Moves tensors between files, random numbers and the memory of a taken plan. Everything goes through chunks of a fixed
 * size, so that loading a model takes no more memory than its plan.
 */
public final class Weights {
  private static final int CHUNK = 1 << 20;

  /** What PEFT puts before every name of an adapter's file. */
  private static final String ADAPTER = LoraConfig.savedName("").replace(".weight", "");

  private final Decoder model;
  private final Machine machine;
  private final Nf4Loader nf4;
  private long bytesRead;
  private final Int8Loader int8;
  private final Fp8Loader fp8;

  /** Of a model that quantizes nothing as it is loaded. The plan that holds it must have been taken. */
  public Weights(Decoder model, Machine machine) {
    this(model, machine, null);
  }

  /**
   * The plan that holds the model must have been taken.
   *
   * @param scratch at least {@link Decoder#loadingBytes} that nothing else uses while weights are filled; null if that is 0
   */
  public Weights(Decoder model, Machine machine, Mem scratch) {
    this.model = model;
    this.machine = machine;
    this.nf4 = new Nf4Loader(machine, scratch);
    this.int8 = new Int8Loader(machine, scratch);
    this.fp8 = new Fp8Loader(machine, scratch, model.parameters().type());
    fillRopeTables();
  }

  private void fillRopeTables() {
    int headDim = model.config().headDim();
    int positions = model.maxPositions();
    model.ropeTables().forEach((rope, table) -> {
      fillRopeTable(table, 0, rope.invFreq(headDim), rope.attentionFactor());
      if (table.cos().rows() > positions) {
        fillRopeTable(table, positions, rope.invFreqOfLong(headDim, positions), rope.attentionFactor());
      }
    });
  }

  /**
   * Angle of position p and pair i: p * inv_freq[i], in fp64, from the fp32 frequencies that the model was trained with.
   *
   * @param firstRow of the table, for position 0
   */
  private void fillRopeTable(RopeTable table, long firstRow, float[] invFreq, double factor) {
    int positions = model.maxPositions();
    float[] cos = new float[positions * invFreq.length];
    float[] sin = new float[cos.length];
    IntStream.range(0, positions).parallel().forEach(p -> {
      for (int i = 0; i < invFreq.length; i++) {
        double angle = (double) p * invFreq[i];
        cos[p * invFreq.length + i] = (float) (StrictMath.cos(angle) * factor);
        sin[p * invFreq.length + i] = (float) (StrictMath.sin(angle) * factor);
      }
    });
    machine.device().write(View.of(table.cos()).rows(firstRow, positions).mem(), cos, 0, cos.length);
    machine.device().write(View.of(table.sin()).rows(firstRow, positions).mem(), sin, 0, sin.length);
  }

  // ----------------------------------------------------------------------------------------------------------- load

  /** Bytes of base models read by {@link #load} so far. */
  public long bytesRead() {
    return bytesRead;
  }

  /**
   * A base model and an adapter from their folders.
   *
   * @param adapter null: none
   */
  public void load(Path folder, Path adapter) {
    if (GgufModel.isIn(folder)) {
      loadGguf(folder);
    } else {
      try (Checkpoint files = Checkpoint.open(folder)) {
        ModelTensors.check(model.config(), files);
        loadBase(files);
        bytesRead += files.tensors().values().stream().mapToLong(TensorInfo::bytes).sum();
      }
    }
    if (adapter == null) {
      return;
    }
    Path file = adapter.resolve(LoraConfig.WEIGHTS_FILE);
    if (!Files.isRegularFile(file)) {
      throw new OribiException(adapter + " has no " + LoraConfig.WEIGHTS_FILE + ": give the folder of a PEFT adapter");
    }
    try (Checkpoint files = Checkpoint.open(file)) {
      loadAdapter(files, file.toString());
    }
  }

  private void loadGguf(Path folder) {
    try (GgufModel files = GgufModel.open(folder)) {
      GgufLoader loader = new GgufLoader(files, machine);
      for (Tensor t : model.parameters().tensors()) {
        if (!isLora(t)) {
          loader.load(baseName(t.name(), files.tensors().containsKey("lm_head.weight")), t);
        }
      }
      bytesRead += files.tensors().values().stream().mapToLong(GgufTensor::bytes).sum();
    }
    refresh16();
  }

  /** Every weight of the base model; adapters keep what they have. */
  public void loadBase(Checkpoint files) {
    for (Tensor t : model.parameters().tensors()) {
      if (!isLora(t)) {
        load(files, baseName(t.name(), files.tensors().containsKey("lm_head.weight")), t);
      }
    }
    refresh16();
  }

  private static boolean isAdapter(Tensor t) {
    return t.name().startsWith(ADAPTER);
  }

  /**
   * The tensors of an adapter, by PEFT's names; all must be there and no other.
   *
   * @param where for messages
   */
  public void loadAdapter(Checkpoint files, String where) {
    int used = 0;
    for (Tensor t : model.parameters().tensors()) {
      if (isAdapter(t)) {
        load(files, t.name(), t);
        used++;
      }
    }
    if (used != files.tensors().size()) {
      for (String name : files.tensors().keySet()) {
        if (model.parameters().tensors().stream().noneMatch(t -> t.name().equals(name))) {
          throw new OribiException(
              where + ": the adapter has a tensor " + name + ", for which adapter_config.json and the model have no place");
        }
      }
    }
    refresh16();
  }

  /** A folder's adapter in the place of the present one, which has the same tensors. */
  public void loadAdapter(Path adapter) {
    Path file = adapter.resolve(LoraConfig.WEIGHTS_FILE);
    try (Checkpoint files = Checkpoint.open(file)) {
      loadAdapter(files, file.toString());
    }
  }

  /** Makes every B zero: the model is then its base. */
  public void clearAdapter() {
    for (Tensor t : model.parameters().tensors()) {
      if (t.name().contains(".lora_B.")) {
        machine.kernels().fill(t.part(t.group().value()).mem(), t.elements(), 0, DType.F32);
      }
    }
    refresh16();
  }

  private static boolean isLora(Tensor t) {
    return t.name().contains(".lora_A.") || t.name().contains(".lora_B.");
  }

  /** The name in the base checkpoint: without PEFT's prefix; a head that shares the embedding's weight has that name. */
  private String baseName(String name, boolean hasHead) {
    String plain = name.startsWith(ADAPTER) ? name.substring(ADAPTER.length()) : name;
    boolean shared = plain.equals("lm_head.weight") && !hasHead;
    return shared && model.config().tieWordEmbeddings() ? "model.embed_tokens.weight" : plain;
  }

  private void load(Checkpoint files, String name, Tensor t) {
    if (t.nf4() != null && model.quantization().stored()) {
      nf4.copy(files, name, t);
      return;
    }
    TensorInfo info = files.tensors().get(name);
    if (info == null) {
      throw new OribiException("the checkpoint has no tensor " + name + " " + Arrays.toString(t.shape()));
    }
    if (!Arrays.equals(info.shape(), t.shape())) {
      throw new OribiException(
          info.file() + ": tensor " + name + " has shape " + Arrays.toString(info.shape()) + " where config.json asks for "
              + Arrays.toString(t.shape()));
    }
    if (t.nf4() != null) {
      nf4.quantize(files, info, t);
      return;
    }
    if (t.int8() != null) {
      int8.quantize(files, info, t);
      return;
    }
    if (t.fp8() != null) {
      copy(files.fileOf(info), info, fp8.place(t), model.parameters().type());
      fp8.filled(t);
      return;
    }
    View to = t.trainable() ? t.part(t.group().value()) : t.value();
    if (t.order() != null) {
      float[] values = new float[Math.toIntExact(t.elements())];
      files.fileOf(info).readFloats(info, 0, FloatBuffer.wrap(values));
      write(to.mem(), to.type(), 0, FloatBuffer.wrap(t.order().fromFile(values)));
      return;
    }
    copy(files.fileOf(info), info, to.mem(), to.type());
  }

  private void copy(SafetensorsFile file, TensorInfo info, Mem to, DType type) {
    boolean same = info.type() == TensorType.BF16 && type == DType.BF16;
    if (same || info.type() == TensorType.F16 && type == DType.F16) {
      copyRaw(file, info, to);
      return;
    }
    long elements = to.bytes() / type.bytes();
    FloatBuffer chunk = FloatBuffer.allocate(CHUNK);
    for (long at = 0; at < elements; at += CHUNK) {
      chunk.clear().limit((int) Math.min(CHUNK, elements - at));
      file.readFloats(info, at, chunk);
      write(to, type, at, chunk.flip());
    }
  }

  private void copyRaw(SafetensorsFile file, TensorInfo info, Mem to) {
    long chunk = 64L << 20;
    for (long at = 0; at < info.bytes(); at += chunk) {
      int length = (int) Math.min(chunk, info.bytes() - at);
      machine.device().write(to.slice(at, length), file.slice(info, at, length));
    }
  }

  /** Elements from {@code at} on. */
  private void write(Mem to, DType type, long at, FloatBuffer values) {
    write(machine, to, type, at, values);
  }

  static void write(Machine machine, Mem to, DType type, long at, FloatBuffer values) {
    int n = values.remaining();
    if (type == DType.F32) {
      machine.device().write(to.slice(4 * at, 4L * n), values.array(), values.position(), n);
      return;
    }
    ByteBuffer half = ByteBuffer.allocateDirect(2 * n).order(ByteOrder.nativeOrder());
    while (values.hasRemaining()) {
      half.putShort(type == DType.BF16 ? Half.toBf16(values.get()) : Half.toF16(values.get()));
    }
    machine.device().write(to.slice(2 * at, 2L * n), half.flip());
  }

  /** The 16-bit copies of all that learns, from the fp32 values. */
  public void refresh16() {
    for (Group g : model.parameters().groups()) {
      if (g.value16() != null) {
        machine.kernels().cast(g.value16().mem(), g.value().mem(), g.count(), g.value16().type(), DType.F32);
      }
    }
  }

  // --------------------------------------------------------------------------------------------------------- random

  /**
   * PEFT's first values: A uniform within 1/sqrt(in) (Kaiming with a = sqrt(5)) or normal with deviation 1/r ("gaussian"), B
   * zero; with {@code init_lora_weights: false} B is uniform too.
   */
  public void initAdapter(LoraConfig lora, long seed) {
    long stream = 0;
    for (Tensor t : model.parameters().tensors()) {
      stream++;
      boolean draws = t.name().contains(".lora_A.") || lora.initLoraWeights() == LoraConfig.Init.RANDOM;
      if (isLora(t) && draws) {
        Mem to = t.part(t.group().value()).mem();
        double rank = t.shape()[0];
        float bound = (float) (1 / Math.sqrt(t.shape()[1]));
        if (lora.initLoraWeights() == LoraConfig.Init.GAUSSIAN) {
          machine.kernels().randomNormal(to, t.elements(), 0, (float) (1 / rank), seed, stream, DType.F32);
        } else {
          machine.kernels().randomUniform(to, t.elements(), -bound, bound, seed, stream, DType.F32);
        }
      }
    }
    refresh16();
  }

  /** The first values of training from scratch: norms as if they were not there, biases 0, all else normal with {@code std} (initializer_range). */
  public void initRandom(float std, long seed) {
    long stream = 1L << 32;
    for (Tensor t : model.parameters().tensors()) {
      stream++;
      if (isLora(t)) {
        continue;
      }
      if (t.nf4() != null) {
        long drawn = stream;
        nf4.quantize(t, DType.F32, values -> machine.kernels().randomNormal(values, t.elements(), 0, std, seed, drawn, DType.F32));
        continue;
      }
      if (t.int8() != null) {
        drawIn8Bits(t, std, seed, stream);
        continue;
      }
      if (t.fp8() != null) {
        machine.kernels().randomNormal(fp8.place(t), t.elements(), 0, std, seed, stream, model.parameters().type());
        fp8.filled(t);
        continue;
      }
      View to = t.trainable() ? t.part(t.group().value()) : t.value();
      if (t.shape().length == 1) {
        boolean one = model.architecture().norm() == NormWeight.PLAIN && !t.name().endsWith("bias");
        machine.kernels().fill(to.mem(), t.elements(), one ? 1 : 0, to.type());
      } else {
        machine.kernels().randomNormal(to.mem(), t.elements(), 0, std, seed, stream, to.type());
      }
    }
    refresh16();
  }

  /** Each piece of rows has a stream of its own, far from those of other tensors. */
  private void drawIn8Bits(Tensor t, float std, long seed, long stream) {
    long cols = t.int8().cols();
    int8.quantize(t, DType.F32, (to, begin, count) ->
        machine.kernels().randomNormal(to, count * cols, 0, std, seed, stream + ((begin + 1) << 33), DType.F32));
  }

  // ----------------------------------------------------------------------------------------------------------- read

  /** What a head in 8 bits lost when it was filled, as a sentence; empty where there is none. */
  public Optional<String> headReport() {
    double error = int8.relativeError();
    return Double.isNaN(error)
        ? Optional.empty()
        : Optional.of(
            String.format(Locale.ROOT, "The head is in 8 bits: its weights are off by %.3f %% (rms of the difference over rms).", 100 * error));
  }

  /**
   * Elements of a tensor from {@code offset} on in the order of a file, as fp32: of what learns the fp32 value, not its 16-bit
   * copy. Not of one in 4 or 8 bits or FP8.
   */
  public void read(Tensor t, long offset, FloatBuffer into) {
    read(machine, t, t.trainable() ? t.part(t.group().value()) : t.value(), offset, into);
  }

  /** The same of a tensor's gradient or moment. */
  public static void read(Machine machine, Tensor t, View from, long offset, FloatBuffer into) {
    if (t.order() == null) {
      readFloats(machine, from, offset, into);
      return;
    }
    FloatBuffer all = FloatBuffer.allocate(Math.toIntExact(t.elements()));
    readFloats(machine, from, 0, all);
    into.put(t.order().toFile(all.array()), Math.toIntExact(offset), into.remaining());
  }

  /** Bytes of a part of a tensor in 4 bits, as they are. */
  public void readBytes(View from, long offset, ByteBuffer into) {
    machine.device().read(from.mem().slice(offset, into.remaining()), into);
  }

  static void readFloats(Machine machine, View from, long offset, FloatBuffer into) {
    int n = into.remaining();
    if (from.type() == DType.F32) {
      float[] values = new float[n];
      machine.device().read(from.mem().slice(4 * offset, 4L * n), values, 0, n);
      into.put(values);
      return;
    }
    ByteBuffer half = ByteBuffer.allocateDirect(2 * n).order(ByteOrder.nativeOrder());
    machine.device().read(from.mem().slice(2 * offset, 2L * n), half);
    half.flip();
    while (half.hasRemaining()) {
      into.put(from.type() == DType.BF16 ? Half.fromBf16(half.getShort()) : Half.fromF16(half.getShort()));
    }
  }
}
