package dev.oribi.io;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes safetensors files without ever holding a whole tensor: the tensors are declared first, then asked for one by one.
 *
 * <p>The layout is canonical: wider types first, then by name; the header is padded so that the data begins at a multiple of
 * 8. Equal content therefore gives equal bytes, whatever the order of declaration. Files appear whole or not at all.
 */
public final class SafetensorsWriter {
  /** What Hugging Face's loaders expect in {@code __metadata__}. */
  public static final Map<String, String> PT = Map.of("format", "pt");

  /** Size above which transformers by default begins a new file. */
  public static final long DEFAULT_SHARD_BYTES = 5_000_000_000L;

  private static final Comparator<Tensor> CANONICAL = Comparator.comparing(Tensor::type).reversed().thenComparing(Tensor::name);

  /**
   * A tensor to be written.
   *
   * @param name name in the file
   * @param type type of the elements
   * @param shape dimensions, outermost first; none for a scalar
   */
  public record Tensor(String name, TensorType type, long... shape) {
    public Tensor {
      shape = shape.clone();
      if (name.equals(SafetensorsHeader.METADATA) || Arrays.stream(shape).anyMatch(dim -> dim < 0)) {
        throw new IllegalArgumentException("no tensor: " + name + " " + Arrays.toString(shape));
      }
    }

    @Override
    public long[] shape() {
      return shape.clone();
    }

    public long bytes() {
      return type.bytes(TensorType.elements(shape));
    }
  }

  /** Gives the data of a tensor when its turn comes. */
  @FunctionalInterface
  public interface Source {
    /** Puts all elements of {@code tensor}, in row-major order and in chunks of any size, into {@code sink}. */
    void write(Tensor tensor, Sink sink) throws IOException;
  }

  /** Takes the data of one tensor. */
  public static final class Sink {
    private static final int CHUNK = 1 << 16;

    private final Tensor tensor;
    private final FileChannel out;
    private final ByteBuffer chunk;
    private long left;

    private Sink(Tensor tensor, FileChannel out, ByteBuffer chunk) {
      this.tensor = tensor;
      this.out = out;
      this.chunk = chunk;
      this.left = tensor.bytes();
    }

    /** Appends raw little-endian bytes. */
    public void bytes(ByteBuffer data) throws IOException {
      if (data.remaining() > left) {
        throw new IllegalStateException("too much data for " + tensor.name());
      }
      left -= data.remaining();
      AtomicFiles.writeFully(out, data);
    }

    /** Appends values, converted to the tensor's type (F32, BF16 or F16; 16-bit ones round to nearest even). */
    public void floats(FloatBuffer values) throws IOException {
      while (values.hasRemaining()) {
        chunk.clear();
        for (int n = Math.min(values.remaining(), CHUNK); n > 0; n--) {
          switch (tensor.type()) {
            case F32 -> chunk.putFloat(values.get());
            case BF16 -> chunk.putShort(Half.toBf16(values.get()));
            case F16 -> chunk.putShort(Half.toF16(values.get()));
            default -> throw new IllegalStateException("floats for " + tensor.name() + " of type " + tensor.type());
          }
        }
        bytes(chunk.flip());
      }
    }
  }

  private SafetensorsWriter() {}

  /** Writes one file, replacing it if it exists. */
  public static void write(Path file, Collection<Tensor> tensors, Map<String, String> metadata, Source source) {
    List<Tensor> sorted = tensors.stream().sorted(CANONICAL).toList();
    byte[] header = header(file, sorted, metadata);
    ByteBuffer chunk = ByteBuffer.allocateDirect(Sink.CHUNK * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    AtomicFiles.file(file, out -> {
      ByteBuffer prefix = ByteBuffer.allocate(SafetensorsFile.PREFIX).order(ByteOrder.LITTLE_ENDIAN).putLong(0, header.length);
      AtomicFiles.writeFully(out, prefix);
      AtomicFiles.writeFully(out, ByteBuffer.wrap(header));
      for (Tensor tensor : sorted) {
        Sink sink = new Sink(tensor, out, chunk);
        source.write(tensor, sink);
        if (sink.left != 0) {
          throw new IllegalStateException(sink.left + " bytes are missing for " + tensor.name());
        }
      }
    });
  }

  /**
   * Writes the weights of a model into a folder that has none yet: {@code model.safetensors}, or if they exceed {@code
   * maxShardBytes} several {@code model-00001-of-0000K.safetensors} and their index. Tensors are spread in the order given; one
   * that exceeds the limit gets a file of its own.
   */
  public static void writeModel(Path folder, Collection<Tensor> tensors, long maxShardBytes, Source source) {
    refuseOldWeights(folder);
    List<List<Tensor>> shards = split(tensors, maxShardBytes);
    if (shards.size() == 1) {
      write(folder.resolve(Checkpoint.SINGLE), shards.get(0), PT, source);
      return;
    }
    ObjectNode index = Json.object();
    index.putObject("metadata").put("total_size", tensors.stream().mapToLong(Tensor::bytes).sum());
    ObjectNode map = index.putObject("weight_map");
    for (int i = 0; i < shards.size(); i++) {
      String name = String.format("model-%05d-of-%05d.safetensors", i + 1, shards.size());
      write(folder.resolve(name), shards.get(i), PT, source);
      shards.get(i).forEach(tensor -> map.put(tensor.name(), name));
    }
    Json.write(folder.resolve(Checkpoint.INDEX), index);
  }

  /** Old files among new ones would be read in their place. */
  private static void refuseOldWeights(Path folder) {
    if (!Files.isDirectory(folder)) {
      return;
    }
    try (DirectoryStream<Path> old = Files.newDirectoryStream(folder, "model*.safetensors*")) {
      for (Path file : old) {
        throw new OribiException(file + ": exists already; remove it or write the model to another folder.");
      }
    } catch (IOException e) {
      throw AtomicFiles.failure(folder, e);
    }
  }

  private static List<List<Tensor>> split(Collection<Tensor> tensors, long maxShardBytes) {
    List<List<Tensor>> shards = new ArrayList<>();
    shards.add(new ArrayList<>());
    long bytes = 0;
    for (Tensor tensor : tensors) {
      if (bytes > 0 && bytes + tensor.bytes() > maxShardBytes) {
        shards.add(new ArrayList<>());
        bytes = 0;
      }
      shards.get(shards.size() - 1).add(tensor);
      bytes += tensor.bytes();
    }
    return shards;
  }

  private static byte[] header(Path file, List<Tensor> sorted, Map<String, String> metadata) {
    ObjectNode json = Json.object();
    if (!metadata.isEmpty()) {
      ObjectNode free = json.putObject(SafetensorsHeader.METADATA);
      new TreeMap<>(metadata).forEach(free::put);
    }
    Set<String> names = new HashSet<>();
    long at = 0;
    for (Tensor tensor : sorted) {
      if (!names.add(tensor.name())) {
        throw new IllegalArgumentException("tensor " + tensor.name() + " is declared twice");
      }
      ObjectNode entry = json.putObject(tensor.name()).put("dtype", tensor.type().name());
      ArrayNode shape = entry.putArray("shape");
      Arrays.stream(tensor.shape()).forEach(shape::add);
      entry.putArray("data_offsets").add(at).add(at + tensor.bytes());
      at += tensor.bytes();
    }
    byte[] text = Json.compact(json).getBytes(StandardCharsets.UTF_8);
    byte[] padded = Arrays.copyOf(text, text.length + (-text.length & 7));
    Arrays.fill(padded, text.length, padded.length, (byte) ' ');
    if (padded.length > SafetensorsFile.MAX_HEADER) {
      throw new OribiException("Cannot write " + file + ": its header would exceed the " + SafetensorsFile.MAX_HEADER + " bytes that the format allows.");
    }
    return padded;
  }
}
