package dev.oribi.gguf;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.ModelTensors;
import dev.oribi.model.config.TensorSpec;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/**
 * The weights of a GGUF file under Hugging Face's names and in Hugging Face's order of rows, so that the rest of Oribi need not
 * know where a model came from. Closing it closes the file.
 */
public final class GgufModel implements AutoCloseable {
  /** The name under which {@link GgufFolder} puts the file into a model folder. */
  public static final String FILE = "model.gguf";

  private static final String HEAD = "output.weight";
  private static final String EMBEDDING = "token_embd.weight";
  private static final String PARTS = "split.count";

  private final GgufFile file;
  private final ObjectNode config;
  private final GgufNames names;
  private final Map<String, GgufTensor> tensors = new LinkedHashMap<>();
  private final Map<String, LatentSplit> splits = new HashMap<>();

  private GgufModel(GgufFile file) {
    this.file = file;
    requireWhole(file);
    GgufKeys keys = GgufKeys.of(file);
    GgufFamily family = GgufFamilies.of(keys);
    int vocabulary = Math.toIntExact(file.tensor(EMBEDDING).rows());
    config = family.config(keys, vocabulary, isTied()).put("torch_dtype", dtype());
    ModelConfig parsed = ModelConfig.parse(config, file.file().toString());
    names = family.names(parsed);
    Set<String> used = new HashSet<>(keys.tables().keySet());
    for (TensorSpec spec : ModelTensors.of(parsed)) {
      GgufNames.Place place = names.place(spec.name());
      LatentSplit split = names.split(spec.name()).orElse(null);
      if (split != null && !file.tensors().containsKey(place.tensor())) {
        tensors.put(spec.name(), joined(split, spec));
        used.addAll(Set.of(split.keys(), split.values()));
      } else {
        tensors.put(spec.name(), part(file.tensor(place.tensor()), place, spec));
        used.add(place.tensor());
      }
    }
    for (String name : file.tensors().keySet()) {
      if (!used.contains(name) && !name.equals(HEAD)) { // a head that repeats the embedding is not a weight of its own
        throw new OribiException(file.file() + ": tensor " + name + " has no place in a model of architecture " + family.architecture());
      }
    }
  }

  private static void requireWhole(GgufFile file) {
    GgufValue parts = file.metadata().get(PARTS);
    long count = parts == null ? 1 : parts.integer(file.where(PARTS), 0, Integer.MAX_VALUE);
    if (count > 1) {
      throw new OribiException(file.file() + ": is one of " + count + " files that a model was split into; join them first:"
          + " llama-gguf-split --merge FIRST-FILE OUT.gguf");
    }
  }

  /** A weight that lies in two tensors: numbers, which no row of blocks in the file is. */
  private GgufTensor joined(LatentSplit split, TensorSpec spec) {
    requireShape(file.tensor(split.keys()), split.keysShape());
    requireShape(file.tensor(split.values()), split.valuesShape());
    splits.put(spec.name(), split);
    return new GgufTensor(split.keys() + " and " + split.values(), GgmlType.F32, spec.shape(), 0, 0);
  }

  private void requireShape(GgufTensor t, long[] shape) {
    if (!Arrays.equals(t.shape(), shape)) {
      throw new OribiException(file.file() + ": tensor " + t + " has another shape than the file's sizes ask for, " + Arrays.toString(shape));
    }
  }

  /** A weight within its tensor: all of it, or one matrix of a stack. */
  private GgufTensor part(GgufTensor t, GgufNames.Place place, TensorSpec spec) {
    long[] shape = spec.shape();
    long[] stacked = new long[shape.length + 1];
    stacked[0] = place.parts();
    System.arraycopy(shape, 0, stacked, 1, shape.length);
    requireShape(t, place.parts() == 0 ? shape : stacked);
    long bytes = t.bytes() / Math.max(1, place.parts());
    return new GgufTensor(t.name(), t.type(), shape, t.begin() + place.part() * bytes, bytes);
  }

  /** What the matrices were before they were packed, as far as a file tells. */
  private String dtype() {
    Set<GgmlType> types = new HashSet<>();
    file.tensors().values().stream().filter(t -> t.shape().length > 1).forEach(t -> types.add(t.type()));
    return types.equals(Set.of(GgmlType.F32)) ? "float32" : types.contains(GgmlType.BF16) ? "bfloat16" : "float16";
  }

  /** Some converters write the embedding a second time as the head. */
  private boolean isTied() {
    GgufTensor head = file.tensors().get(HEAD);
    GgufTensor embedding = file.tensor(EMBEDDING);
    return head == null || head.type() == embedding.type() && head.bytes() == embedding.bytes() && sameBytes(head, embedding);
  }

  private boolean sameBytes(GgufTensor a, GgufTensor b) {
    for (long at = 0; at < a.bytes(); at += CHUNK) {
      int n = (int) Math.min(CHUNK, a.bytes() - at);
      if (!file.slice(a, at, n).equals(file.slice(b, at, n))) {
        return false;
      }
    }
    return true;
  }

  private static final int CHUNK = 1 << 22;

  /** Whether a model folder holds its weights as GGUF. */
  public static boolean isIn(Path folder) {
    return Files.isRegularFile(folder.resolve(FILE));
  }

  /** Opens a file, or the one of a folder; the caller closes it. */
  public static GgufModel open(Path fileOrFolder) {
    GgufFile file = GgufFile.open(Files.isDirectory(fileOrFolder) ? fileOrFolder.resolve(FILE) : fileOrFolder);
    GgufModel model = null;
    try {
      model = new GgufModel(file);
      return model;
    } finally {
      if (model == null) {
        file.close();
      }
    }
  }

  public GgufFile file() {
    return file;
  }

  /** The config.json that says what the file's keys say. */
  ObjectNode config() {
    return config;
  }

  /** The weights by Hugging Face's names, each expert's by itself; a head that repeats the embedding is not among them. */
  public Map<String, GgufTensor> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  /** The tensor of that name; an {@link OribiException} if there is none. */
  public GgufTensor tensor(String name) {
    GgufTensor t = tensors.get(name);
    if (t == null) {
      throw new OribiException(file.file() + ": has no tensor for " + name);
    }
    return t;
  }

  /** The blocks of row {@code row} of a matrix, in Hugging Face's order of rows. */
  public ByteBuffer row(String name, long row) {
    GgufTensor t = tensor(name);
    int bytes = Math.toIntExact(t.type().bytes(t.cols()));
    return file.slice(t, names.place(name).order().fileRow(row) * bytes, bytes);
  }

  /** Fills {@code into} with whole rows from {@code row} on, in Hugging Face's order; a vector is one row. */
  public void readRows(String name, long row, FloatBuffer into) {
    GgufTensor t = tensor(name);
    GgufNames.Place place = names.place(name);
    int cols = Math.toIntExact(t.cols());
    if (into.remaining() % cols != 0) {
      throw new IllegalArgumentException(into.remaining() + " values are no whole rows of " + t);
    }
    LatentSplit split = splits.get(name);
    if (split != null) {
      readSplit(split, row, into);
      return;
    }
    if (t.shape().length == 1) {
      readVector(t, place, into);
      return;
    }
    if (place.order().same()) {
      file.readFloats(t, row * cols, into);
      return;
    }
    float[] values = new float[cols];
    while (into.hasRemaining()) {
      GgmlBlocks.decode(t.type(), row(name, row++), values, 0, cols);
      into.put(values);
    }
  }

  private void readSplit(LatentSplit split, long row, FloatBuffer into) {
    FloatBuffer keys = FloatBuffer.allocate(split.rank() * split.nope());
    FloatBuffer values = FloatBuffer.allocate(split.value() * split.rank());
    while (into.hasRemaining()) {
      long head = row / split.headRows();
      int first = (int) (row % split.headRows());
      file.readFloats(file.tensor(split.keys()), head * keys.capacity(), keys.clear());
      file.readFloats(file.tensor(split.values()), head * values.capacity(), values.clear());
      int rows = Math.min(split.headRows() - first, into.remaining() / split.rank());
      into.put(split.join(keys.array(), values.array()), first * split.rank(), rows * split.rank());
      row += rows;
    }
  }

  private void readVector(GgufTensor t, GgufNames.Place place, FloatBuffer into) {
    FloatBuffer values = FloatBuffer.allocate(Math.toIntExact(t.cols()));
    file.readFloats(t, 0, values);
    for (int i = 0; i < values.capacity(); i++) {
      into.put(values.get((int) place.order().fileRow(i)) - place.plus());
    }
  }

  @Override
  public void close() {
    file.close();
  }
}
