package dev.oribi.gguf;

import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.nio.FloatBuffer;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/**
 * What a GGUF file says of a model besides its weights: the keys of its architecture, tables of rotary frequencies that lie
 * among the tensors, and which tensors there are. Read from a file, or put together to be written; a family's descriptor reads
 * both alike, so that what is written can be compared with the model before a byte of it is.
 *
 * <p>Keys are named without the architecture: {@code attention.head_count} is {@code llama.attention.head_count} in the file.
 */
public final class GgufKeys {
  private static final String ARCHITECTURE = "general.architecture";
  private static final int MOST = 1 << 24;
  private static final int MOST_IN_TABLE = 1 << 20;

  private final String where;
  private final String architecture;
  private final Map<String, GgufValue> values;
  private final Map<String, float[]> tables;
  private final Set<String> tensors;

  private GgufKeys(String where, String architecture, Map<String, GgufValue> values, Map<String, float[]> tables, Set<String> tensors) {
    this.where = where;
    this.architecture = architecture;
    this.values = values;
    this.tables = tables;
    this.tensors = tensors;
  }

  /** Those of a file. */
  static GgufKeys of(GgufFile file) {
    String architecture = file.required(ARCHITECTURE).text(file.where(ARCHITECTURE));
    Map<String, float[]> tables = new LinkedHashMap<>();
    for (GgufTensor t : file.tensors().values()) {
      if (t.name().startsWith("rope_")) {
        if (t.elements() > MOST_IN_TABLE) {
          throw new OribiException(file.file() + ": " + t + " is too large for a table of rotary frequencies");
        }
        float[] values = new float[(int) t.elements()];
        file.readFloats(t, 0, FloatBuffer.wrap(values));
        tables.put(t.name(), values);
      }
    }
    return new GgufKeys(file.file().toString(), architecture, file.metadata(), tables, file.tensors().keySet());
  }

  /**
   * To be filled.
   *
   * @param where names the model in messages
   * @param tensors the names of the weights that the file will have
   */
  public static GgufKeys empty(String where, String architecture, Set<String> tensors) {
    GgufKeys keys = new GgufKeys(where, architecture, new LinkedHashMap<>(), new LinkedHashMap<>(), tensors);
    keys.values.put(ARCHITECTURE, GgufValue.string(architecture));
    return keys;
  }

  public String architecture() {
    return architecture;
  }

  /** All keys, by their whole names. */
  public Map<String, GgufValue> values() {
    return Collections.unmodifiableMap(values);
  }

  /** Tables by the names of their tensors. */
  public Map<String, float[]> tables() {
    return Collections.unmodifiableMap(tables);
  }

  // ----------------------------------------------------------------------------------------------------------- write

  public GgufKeys put(String key, GgufValue value) {
    values.put(architecture + "." + key, value);
    return this;
  }

  public GgufKeys put(String key, long value) {
    return put(key, GgufValue.u32(value));
  }

  /** A number, which the file holds in 32 bits. */
  public GgufKeys putNumber(String key, double value) {
    return put(key, GgufValue.f32(value));
  }

  public GgufKeys putTable(String tensor, float[] values) {
    tables.put(tensor, values.clone());
    return this;
  }

  // ------------------------------------------------------------------------------------------------------------ read

  public boolean has(String key) {
    return values.containsKey(architecture + "." + key);
  }

  public boolean hasTensor(String name) {
    return tensors.contains(name);
  }

  /** A table by the name of its tensor; null if there is none. */
  public float[] table(String tensor) {
    float[] table = tables.get(tensor);
    return table == null ? null : table.clone();
  }

  /** A key that must be there. */
  public int integer(String key, int least) {
    GgufValue value = values.get(architecture + "." + key);
    if (value == null) {
      throw new OribiException(where + ": has no key " + architecture + "." + key + ".");
    }
    return (int) value.integer(name(key), least, MOST);
  }

  public int integer(String key, int least, int ifMissing) {
    return has(key) ? integer(key, least) : ifMissing;
  }

  /** 1e-5 as a float is 0.0000099999997; the shortest decimal number that gives the same float is what was meant. */
  public double number(String key, double ifMissing) {
    return has(key) ? shortest(values.get(architecture + "." + key).number(name(key))) : ifMissing;
  }

  static double shortest(double value) {
    return Double.parseDouble(Float.toString((float) value));
  }

  public String text(String key, String ifMissing) {
    return has(key) ? values.get(architecture + "." + key).text(name(key)) : ifMissing;
  }

  public boolean flag(String key, boolean ifMissing) {
    return has(key) ? values.get(architecture + "." + key).flag(name(key)) : ifMissing;
  }

  /** An error about a key's value. */
  public OribiException refuse(String key, String why) {
    GgufValue value = values.get(architecture + "." + key);
    return new OribiException(name(key) + (value == null ? "" : " " + Json.shorten(String.valueOf(value.value()))) + " " + why);
  }

  /** An error about the file as a whole. */
  public OribiException refuse(String why) {
    return new OribiException(where + ": " + why);
  }

  private String name(String key) {
    return where + ": " + architecture + "." + key;
  }
}
