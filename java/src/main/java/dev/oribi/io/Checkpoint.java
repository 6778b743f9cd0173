package dev.oribi.io;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/**
 * All tensors of a model folder, whether they lie in one safetensors file or in many.
 *
 * <p>A folder holds {@code model.safetensors}, or {@code model.safetensors.index.json} and the shards it names. The index
 * is checked against the shards: what it promises must be there, nowhere else, and nothing beside it. Closing the checkpoint
 * closes its files.
 */
public final class Checkpoint implements AutoCloseable {
  public static final String SINGLE = "model.safetensors";
  public static final String INDEX = "model.safetensors.index.json";

  /** More shards than any published model has; bounds the open files. */
  private static final int MAX_SHARDS = 10_000;

  private final Map<Path, SafetensorsFile> files = new LinkedHashMap<>();
  private final Map<String, TensorInfo> tensors = new LinkedHashMap<>();

  private Checkpoint() {}

  /** Opens a model folder, or a single safetensors file. The caller closes it. */
  public static Checkpoint open(Path folderOrFile) {
    Checkpoint checkpoint = new Checkpoint();
    boolean whole = false;
    try {
      checkpoint.load(folderOrFile);
      whole = true;
      return checkpoint;
    } finally {
      if (!whole) {
        checkpoint.close();
      }
    }
  }

  private void load(Path path) {
    if (!Files.isDirectory(path)) {
      add(path);
    } else if (Files.exists(path.resolve(SINGLE))) {
      add(path.resolve(SINGLE));
    } else if (Files.exists(path.resolve(INDEX))) {
      addShards(path);
    } else if (Files.exists(path.resolve("pytorch_model.bin")) || Files.exists(path.resolve("pytorch_model.bin.index.json"))) {
      throw new OribiException(path + ": has only PyTorch pickle files, which can run code when read and are never opened; "
          + "fetch the model's safetensors files.");
    } else {
      throw new OribiException(path + ": has neither " + SINGLE + " nor " + INDEX + "; is it a model folder?");
    }
  }

  private void addShards(Path folder) {
    Map<String, String> map = weightMap(folder.resolve(INDEX));
    for (String shard : new TreeSet<>(map.values())) {
      add(folder.resolve(shard));
    }
    for (Map.Entry<String, String> entry : map.entrySet()) {
      TensorInfo tensor = tensors.get(entry.getKey());
      if (tensor == null || !tensor.file().equals(folder.resolve(entry.getValue()))) {
        throw new OribiException(folder.resolve(INDEX) + ": says that " + Json.shorten(entry.getKey()) + " is in "
            + entry.getValue() + ", but " + (tensor == null ? "no shard has it." : "it is in " + tensor.file().getFileName() + "."));
      }
    }
    for (TensorInfo tensor : tensors.values()) {
      if (!map.containsKey(tensor.name())) {
        throw new OribiException(folder.resolve(INDEX) + ": does not list " + Json.shorten(tensor.name()) + ", which "
            + tensor.file().getFileName() + " holds.");
      }
    }
  }

  private static Map<String, String> weightMap(Path index) {
    if (!(Json.readObject(index).get("weight_map") instanceof ObjectNode entries) || entries.isEmpty()) {
      throw new OribiException(index + ": needs an object weight_map from tensor names to file names.");
    }
    Map<String, String> map = new LinkedHashMap<>();
    for (Map.Entry<String, JsonNode> entry : entries.properties()) {
      map.put(entry.getKey(), shardName(index, entry.getKey(), entry.getValue()));
    }
    int shards = new TreeSet<>(map.values()).size();
    if (shards > MAX_SHARDS) {
      throw new OribiException(index + ": names " + shards + " files, more than the " + MAX_SHARDS + " allowed.");
    }
    return map;
  }

  /** A plain file name inside the folder; anything that could lead elsewhere is refused. */
  private static String shardName(Path index, String tensor, JsonNode value) {
    String name = value.isTextual() ? value.textValue() : "";
    boolean plain = !name.isEmpty() && !name.equals(".") && !name.contains("..") && name.chars().noneMatch(c -> c == '/' || c == '\\' || c < ' ' || c == ':');
    if (!plain) {
      throw new OribiException(index + ": weight_map of " + Json.shorten(tensor) + " must be a plain file name, found " + Json.kind(value) + ".");
    }
    return name;
  }

  private void add(Path path) {
    SafetensorsFile file = SafetensorsFile.open(path);
    files.put(path, file);
    for (TensorInfo tensor : file.tensors().values()) {
      TensorInfo twin = tensors.put(tensor.name(), tensor);
      if (twin != null) {
        throw new OribiException(path + ": holds tensor " + Json.shorten(tensor.name()) + ", which " + twin.file().getFileName() + " holds too.");
      }
    }
  }

  /** All tensors by name. */
  public Map<String, TensorInfo> tensors() {
    return Collections.unmodifiableMap(tensors);
  }

  /** The tensor of that name; an {@link OribiException} if there is none. */
  public TensorInfo tensor(String name) {
    TensorInfo tensor = tensors.get(name);
    if (tensor == null) {
      throw new OribiException(describe() + ": has no tensor " + Json.shorten(name) + ".");
    }
    return tensor;
  }

  /** The open file that holds a tensor of this checkpoint. */
  public SafetensorsFile fileOf(TensorInfo tensor) {
    SafetensorsFile file = files.get(tensor.file());
    if (file == null) {
      throw new IllegalArgumentException(tensor + " is not in this checkpoint");
    }
    return file;
  }

  /** Fills {@code into} with elements of a tensor as floats, from {@code elementOffset} on. */
  public void readFloats(TensorInfo tensor, long elementOffset, FloatBuffer into) {
    fileOf(tensor).readFloats(tensor, elementOffset, into);
  }

  /** The file, or the folder of the shards, for messages. */
  public String describe() {
    List<Path> paths = new ArrayList<>(files.keySet());
    return paths.size() == 1 ? paths.get(0).toString() : paths.get(0).resolveSibling(INDEX).toString();
  }

  @Override
  public void close() {
    files.values().forEach(SafetensorsFile::close);
  }
}
