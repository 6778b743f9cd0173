package dev.oribi.gguf;

import dev.oribi.OribiException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The weights of a GGUF file under Hugging Face's names and in Hugging Face's order of rows, so that the rest of Oribi need not
 * know where a model came from. Closing it closes the file.
 */
public final class GgufModel implements AutoCloseable {
  /** The name under which {@link GgufFolder} puts the file into a model folder. */
  public static final String FILE = "model.gguf";

  private final GgufFile file;
  private final GgufFamily family;
  private final int heads;
  private final int kvHeads;
  private final int headDim;
  private final Map<String, GgufTensor> tensors = new LinkedHashMap<>();

  private GgufModel(GgufFile file) {
    this.file = file;
    this.family = GgufFamily.ofArchitecture(file.required("general.architecture").text(file.where("general.architecture")), file.file().toString());
    GgufSizes sizes = GgufSizes.read(file, family);
    this.heads = sizes.heads();
    this.kvHeads = sizes.kvHeads();
    this.headDim = sizes.headDim();
    for (GgufTensor t : file.tensors().values()) {
      family.modelName(t.name()).ifPresentOrElse(name -> tensors.put(name, t), () -> checkUnused(t));
    }
    checkTied();
  }

  /** Frequency tables repeat what the configuration says; anything else that is not used would be left out in silence. */
  private void checkUnused(GgufTensor t) {
    if (!t.name().equals("rope_freqs.weight")) {
      throw new OribiException(file.file() + ": tensor " + t.name() + " has no place in a model of architecture " + family.architecture());
    }
  }

  /** Some converters write the embedding a second time as the head. */
  private void checkTied() {
    GgufTensor head = tensors.get("lm_head.weight");
    GgufTensor embedding = tensors.get("model.embed_tokens.weight");
    if (head != null && embedding != null && head.type() == embedding.type() && head.bytes() == embedding.bytes()
        && sameBytes(head, embedding)) {
      tensors.remove("lm_head.weight");
    }
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

  GgufFamily family() {
    return family;
  }

  /** The tensors by Hugging Face's names; a head that repeats the embedding is not among them. */
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

  private RowOrder order(String name) {
    return family.rowOrder(name, heads, kvHeads, headDim);
  }

  /** The blocks of row {@code row}, in Hugging Face's order of rows. */
  public ByteBuffer row(String name, long row) {
    GgufTensor t = tensor(name);
    int bytes = Math.toIntExact(t.type().bytes(t.cols()));
    return file.slice(t, order(name).fileRow(row) * bytes, bytes);
  }

  /** Fills {@code into} with whole rows from {@code row} on, in Hugging Face's order. */
  public void readRows(String name, long row, FloatBuffer into) {
    GgufTensor t = tensor(name);
    RowOrder order = order(name);
    int cols = Math.toIntExact(t.cols());
    if (into.remaining() % cols != 0) {
      throw new IllegalArgumentException(into.remaining() + " values are no whole rows of " + t);
    }
    if (order.same()) {
      file.readFloats(t, row * cols, into);
      return;
    }
    float[] values = new float[cols];
    while (into.hasRemaining()) {
      GgmlBlocks.decode(t.type(), row(name, row++), values, 0, cols);
      into.put(values);
    }
  }

  @Override
  public void close() {
    file.close();
  }
}
