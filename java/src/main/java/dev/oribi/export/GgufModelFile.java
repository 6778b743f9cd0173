package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufKeys;
import dev.oribi.gguf.GgufNames;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.gguf.LatentSplit;
import dev.oribi.gguf.RowOrder;
import dev.oribi.gguf.TokenizerKeys;
import dev.oribi.gguf.family.GgufFamilies;
import dev.oribi.gguf.family.GgufFamily;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Families;
import dev.oribi.text.ChatTemplate;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;

/** Writes a merged model as one GGUF file: sizes, tokenizer, template and tensors under llama.cpp's names. */
final class GgufModelFile {
  private final MergedModel model;
  private final ModelConfig config;
  private final GgufKeys keys;
  private final GgufNames names;
  private final Optional<String> limit;
  private final GgufMix mix;
  private final Path folder;
  private final String title;
  private final Optional<ChatTemplate> template;

  GgufModelFile(MergedModel model, Path folder, GgufMix mix, String title, Optional<ChatTemplate> template) {
    this.model = model;
    this.config = ModelConfig.read(folder);
    GgufFamily family = GgufFamilies.ofModelType(config.modelType());
    this.keys = family.keys(config);
    this.names = family.names(config);
    this.limit = family.limit(config);
    this.mix = mix;
    this.folder = folder;
    this.title = title;
    this.template = template;
  }

  /** What the user should know of the file, if anything. */
  List<String> limits() {
    return Stream.of(limit, TokenizerKeys.limit(folder)).flatMap(Optional::stream).toList();
  }

  /** Bytes of the tensors. */
  long bytes() {
    return tensors(weights()).stream().mapToLong(GgufWriter.Tensor::bytes).sum();
  }

  void write(Path file) {
    Map<String, GgufValue> all = new LinkedHashMap<>(keys.values());
    all.put("general.type", GgufValue.string("model"));
    all.put("general.name", TokenizerKeys.name(folder, title));
    all.put("general.file_type", GgufValue.u32(mix.fileType()));
    if (mix.quantized()) {
      all.put("general.quantization_version", GgufValue.u32(2));
    }
    all.putAll(TokenizerKeys.of(folder, config.vocabSize(), GenerationConfig.read(folder, config), template));
    Map<String, List<String>> weights = weights();
    GgufWriter.write(file, all, tensors(weights), (t, sink) -> {
      float[] table = keys.tables().get(t.name());
      if (table != null) {
        sink.floats(table, table.length);
      } else {
        for (String name : weights.get(t.name())) {
          put(t.name(), name, sink);
        }
      }
    });
  }

  private void put(String tensor, String name, GgufWriter.Sink sink) throws IOException {
    GgufNames.Place place = names.place(name);
    long[] shape = model.shape(name);
    LatentSplit split = names.split(name).orElse(null);
    if (split != null) {
      putSplit(name, split, tensor.equals(split.keys()), sink);
    } else if (shape.length == 1) {
      putVector(name, place, Math.toIntExact(shape[0]), sink);
    } else if (place.order().same()) {
      RowSource.copy(model, name, (values, n, row, rows) -> sink.floats(values, n));
    } else {
      putTurned(name, place.order(), Math.toIntExact(shape[1]), shape[0], sink);
    }
  }

  private void putVector(String name, GgufNames.Place place, int n, GgufWriter.Sink sink) throws IOException {
    float[] values = new float[n];
    float[] written = new float[n];
    model.read(name, 0, 1, values);
    for (int i = 0; i < n; i++) {
      written[i] = values[(int) place.order().modelRow(i)] + place.plus();
    }
    sink.floats(written, n);
  }

  private void putSplit(String name, LatentSplit split, boolean ofKeys, GgufWriter.Sink sink) throws IOException {
    float[] rows = new float[split.headRows() * split.rank()];
    for (long head = 0; head < split.heads(); head++) {
      model.read(name, head * split.headRows(), split.headRows(), rows);
      split.split(rows, ofKeys, sink::floats);
    }
  }

  /** Rows change places within a head only. */
  private void putTurned(String name, RowOrder order, int cols, long rows, GgufWriter.Sink sink) throws IOException {
    int headRows = order.headDim();
    float[] head = new float[headRows * cols];
    float[] turned = new float[head.length];
    for (long first = 0; first < rows; first += headRows) {
      model.read(name, first, headRows, head);
      for (int r = 0; r < headRows; r++) {
        System.arraycopy(head, (int) (order.modelRow(first + r) - first) * cols, turned, r * cols, cols);
      }
      sink.floats(turned, turned.length);
    }
  }

  /** The model's weights that each tensor of the file is made of, one after the other. */
  private Map<String, List<String>> weights() {
    Map<String, List<String>> weights = new LinkedHashMap<>();
    for (String name : model.names()) {
      if (!Families.of(config.modelType()).leavesOut(name, config)) {
        List<String> tensors =
            names.split(name).map(s -> List.of(s.keys(), s.values())).orElseGet(() -> List.of(names.place(name).tensor()));
        tensors.forEach(tensor -> weights.computeIfAbsent(tensor, t -> new ArrayList<>()).add(name));
      }
    }
    weights.values().forEach(parts -> parts.sort(Comparator.comparingInt(name -> names.place(name).part())));
    return weights;
  }

  private List<GgufWriter.Tensor> tensors(Map<String, List<String>> weights) {
    GgufMix.Model facts = GgufMix.Model.of(config, !model.ownHead());
    List<GgufWriter.Tensor> tensors = new ArrayList<>();
    keys.tables().forEach((name, table) -> tensors.add(new GgufWriter.Tensor(name, GgmlType.F32, table.length)));
    weights.forEach((tensor, parts) -> {
      int stacked = names.place(parts.get(0)).parts();
      if (parts.size() != Math.max(1, stacked)) {
        throw new OribiException("tensor " + tensor + " is made of " + Math.max(1, stacked) + " weights, and the model has " + parts.size());
      }
      long[] shape = model.shape(parts.get(0));
      long[] written = names.split(parts.get(0)).map(s -> tensor.equals(s.keys()) ? s.keysShape() : s.valuesShape())
          .orElse(stacked == 0 ? shape : new long[] {stacked, shape[0], shape[1]});
      tensors.add(new GgufWriter.Tensor(tensor, mix.of(tensor, written, facts), written));
    });
    return tensors;
  }
}
