package dev.oribi.gguf;

import dev.oribi.OribiException;
import dev.oribi.io.Json;
import dev.oribi.io.MappedFile;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * One GGUF file, checked and mapped into memory; nothing is copied until it is asked for.
 *
 * <pre>
 * "GGUF"  u32 version  u64 tensors  u64 keys  { key  type  value } ...  { name  u32 dims  u64 dim...  u32 type  u64 offset } ...
 * padding to general.alignment   data of the tensors, each at a multiple of the alignment
 * </pre>
 *
 * <p>{@link #open} believes nothing that the file says: every count is compared with the bytes that are left before memory is
 * taken, sizes are multiplied with overflow checks, tensors must lie inside the file and not in each other. Every error is
 * an {@link OribiException} that names the file. Threads may share one instance.
 */
public final class GgufFile implements AutoCloseable {
  static final int MAGIC = 0x46554747;
  static final int VERSION = 3;
  static final long DEFAULT_ALIGNMENT = 32;
  static final String ALIGNMENT = "general.alignment";

  private static final int MAX_KEYS = 1 << 16;
  private static final int MAX_TENSORS = 1 << 20;
  private static final long MAX_KEY = 65_535;
  private static final long MAX_NAME = 256;
  private static final long MAX_ALIGNMENT = 1 << 20;
  private static final int MAX_DIMS = 4;

  private final MappedFile file;
  private final Map<String, GgufValue> metadata;
  private final Map<String, GgufTensor> tensors;

  private GgufFile(MappedFile file, Map<String, GgufValue> metadata, Map<String, GgufTensor> tensors) {
    this.file = file;
    this.metadata = Collections.unmodifiableMap(metadata);
    this.tensors = Collections.unmodifiableMap(tensors);
  }

  /** Opens a file and checks its header. The caller closes it. */
  public static GgufFile open(Path path) {
    MappedFile file = MappedFile.open(path);
    GgufFile opened = null;
    try {
      opened = read(file);
      return opened;
    } finally {
      if (opened == null) {
        file.close();
      }
    }
  }

  private static GgufFile read(MappedFile file) {
    GgufReader in = new GgufReader(file);
    if (in.u32("its first four bytes") != MAGIC) {
      throw in.broken("it does not begin with the letters GGUF");
    }
    checkVersion(in);
    int tensorCount = in.count("the number of tensors", MAX_TENSORS, 24);
    int keyCount = in.count("the number of keys", MAX_KEYS, 13);
    Map<String, GgufValue> metadata = new LinkedHashMap<>();
    for (int i = 0; i < keyCount; i++) {
      String key = in.name("a key", MAX_KEY);
      if (metadata.put(key, in.value("the value of " + Json.shorten(key))) != null) {
        throw in.broken("the key " + Json.shorten(key) + " occurs twice");
      }
    }
    List<GgufTensor> relative = new ArrayList<>();
    for (int i = 0; i < tensorCount; i++) {
      relative.add(tensor(in));
    }
    return new GgufFile(file, metadata, place(file, in, relative, alignment(in, metadata)));
  }

  private static void checkVersion(GgufReader in) {
    int version = in.u32("the version");
    if ((version & 0xffff) == 0 && version != 0) {
      throw in.broken("it was written for big-endian machines");
    }
    if (version != 2 && version != VERSION) {
      throw in.broken("its version is " + Integer.toUnsignedString(version) + ", and 2 and 3 can be read");
    }
  }

  private static GgufTensor tensor(GgufReader in) {
    String name = in.name("the name of a tensor", MAX_NAME);
    String what = "tensor " + Json.shorten(name);
    int dims = in.u32(what);
    if (dims < 1 || dims > MAX_DIMS) {
      throw in.broken(what + " has " + Integer.toUnsignedString(dims) + " dimensions");
    }
    long[] shape = new long[dims];
    long elements = 1;
    try {
      for (int d = dims - 1; d >= 0; d--) {
        shape[d] = in.i64(what);
        if (shape[d] < 1) {
          throw in.broken(what + " has a dimension of " + Long.toUnsignedString(shape[d]));
        }
        elements = Math.multiplyExact(elements, shape[d]);
      }
      int id = in.u32(what);
      GgmlType type = GgmlType.of(id);
      if (type == null) {
        throw new OribiException(what + " has the ggml type " + Integer.toUnsignedString(id)
            + ", which Oribi does not know; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K can be read.");
      }
      if (!type.fits(shape[dims - 1])) {
        throw in.broken(what + " has rows of " + shape[dims - 1] + " elements, which are no whole blocks of " + type);
      }
      return new GgufTensor(name, type, shape, in.i64(what), type.bytes(elements));
    } catch (ArithmeticException e) {
      throw in.broken(what + " is too large");
    }
  }

  private static long alignment(GgufReader in, Map<String, GgufValue> metadata) {
    GgufValue value = metadata.get(ALIGNMENT);
    long alignment = value == null ? DEFAULT_ALIGNMENT : value.integer(ALIGNMENT, 1, MAX_ALIGNMENT);
    if (Long.bitCount(alignment) != 1) {
      throw in.broken(ALIGNMENT + " is " + alignment + ", which is no power of two");
    }
    return alignment;
  }

  /** The tensors by name with places in the file, which must be inside it and may not overlap. */
  private static Map<String, GgufTensor> place(MappedFile file, GgufReader in, List<GgufTensor> relative, long alignment) {
    long dataBegin = align(in.position(), alignment);
    Map<String, GgufTensor> tensors = new LinkedHashMap<>();
    for (GgufTensor t : relative) {
      if (t.begin() < 0 || t.begin() % alignment != 0) {
        throw in.broken("tensor " + Json.shorten(t.name()) + " begins at " + Long.toUnsignedString(t.begin())
            + ", which is no multiple of " + alignment);
      }
      if (t.begin() > file.size() - dataBegin || t.bytes() > file.size() - dataBegin - t.begin()) {
        throw in.truncated("tensor " + Json.shorten(t.name()));
      }
      GgufTensor placed = new GgufTensor(t.name(), t.type(), t.shape(), dataBegin + t.begin(), t.bytes());
      if (tensors.put(t.name(), placed) != null) {
        throw in.broken("the tensor " + Json.shorten(t.name()) + " occurs twice");
      }
    }
    long end = 0;
    for (GgufTensor t : tensors.values().stream().sorted(Comparator.comparingLong(GgufTensor::begin)).toList()) {
      if (t.begin() < end) {
        throw in.broken("tensor " + Json.shorten(t.name()) + " lies inside another one");
      }
      end = t.begin() + t.bytes();
    }
    return tensors;
  }

  static long align(long bytes, long alignment) {
    return Math.addExact(bytes, alignment - 1) / alignment * alignment;
  }

  public Path file() {
    return file.file();
  }

  /** The keys in the order of the file. */
  public Map<String, GgufValue> metadata() {
    return metadata;
  }

  /** The tensors by name in the order of the file. */
  public Map<String, GgufTensor> tensors() {
    return tensors;
  }

  /** The tensor of that name; an {@link OribiException} if there is none. */
  public GgufTensor tensor(String name) {
    GgufTensor tensor = tensors.get(name);
    if (tensor == null) {
      throw new OribiException(file() + ": has no tensor " + name + ".");
    }
    return tensor;
  }

  /** A key's value; an {@link OribiException} if it is missing. */
  GgufValue required(String key) {
    GgufValue value = metadata.get(key);
    if (value == null) {
      throw new OribiException(file() + ": has no key " + key + ".");
    }
    return value;
  }

  /** The name of a key in messages. */
  String where(String key) {
    return file() + ": " + key;
  }

  /** Bytes {@code offset} to {@code offset + length} of a tensor: little-endian, read-only, not copied. */
  public ByteBuffer slice(GgufTensor t, long offset, int length) {
    if (offset < 0 || length < 0 || length > t.bytes() - offset) {
      throw new IndexOutOfBoundsException("bytes " + offset + " + " + length + " of " + t);
    }
    return file.slice(t.begin() + offset, length);
  }

  /** Fills {@code into} with elements of a tensor as floats, from {@code elementOffset} on; both are whole blocks. */
  public void readFloats(GgufTensor t, long elementOffset, FloatBuffer into) {
    int chunk = 1 << 20;
    while (into.hasRemaining()) {
      int n = Math.min(chunk, into.remaining());
      ByteBuffer blocks = slice(t, t.type().bytes(elementOffset), (int) t.type().bytes(n));
      float[] values = new float[n];
      GgmlBlocks.decode(t.type(), blocks, values, 0, n);
      into.put(values);
      elementOffset += n;
    }
  }

  @Override
  public void close() {
    file.close();
  }
}
