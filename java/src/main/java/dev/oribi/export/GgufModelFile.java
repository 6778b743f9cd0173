package dev.oribi.export;

import dev.oribi.gguf.GgmlType;
import dev.oribi.gguf.GgufFamily;
import dev.oribi.gguf.GgufValue;
import dev.oribi.gguf.GgufWriter;
import dev.oribi.gguf.RopeFactors;
import dev.oribi.gguf.RowOrder;
import dev.oribi.gguf.TokenizerKeys;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.RopeConfig;
import dev.oribi.text.ChatTemplate;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Writes a merged model as one GGUF file: sizes, tokenizer, template and tensors under llama.cpp's names. */
final class GgufModelFile {
  private static final String ROPE_FACTORS = "rope_freqs.weight";

  private final MergedModel model;
  private final ModelConfig config;
  private final GgufFamily family;
  private final GgufMix mix;
  private final Path folder;
  private final String title;
  private final Optional<ChatTemplate> template;

  GgufModelFile(MergedModel model, Path folder, GgufMix mix, String title, Optional<ChatTemplate> template) {
    this.model = model;
    this.config = ModelConfig.read(folder);
    this.family = GgufFamily.ofModelType(config.modelType());
    this.mix = mix;
    this.folder = folder;
    this.title = title;
    this.template = template;
  }

  /** Bytes of the tensors. */
  long bytes() {
    return tensors(new LinkedHashMap<>()).stream().mapToLong(GgufWriter.Tensor::bytes).sum();
  }

  void write(Path file) {
    Map<String, String> modelNames = new LinkedHashMap<>();
    List<GgufWriter.Tensor> tensors = tensors(modelNames);
    GgufWriter.write(file, metadata(), tensors, (t, sink) -> {
      if (t.name().equals(ROPE_FACTORS)) {
        float[] factors = ropeFactors();
        sink.floats(factors, factors.length);
      } else {
        put(modelNames.get(t.name()), sink);
      }
    });
  }

  private void put(String name, GgufWriter.Sink sink) throws IOException {
    RowOrder order = family.rowOrder(name, config.numAttentionHeads(), config.numKeyValueHeads(), config.headDim());
    if (order.same()) {
      RowSource.copy(model, name, (values, n, row, rows) -> sink.floats(values, n));
      return;
    }
    long[] shape = model.shape(name);
    int cols = Math.toIntExact(shape[1]);
    int headRows = config.headDim();
    float[] head = new float[headRows * cols];
    float[] turned = new float[head.length];
    for (long first = 0; first < shape[0]; first += headRows) { // rows change places within a head only
      model.read(name, first, headRows, head);
      for (int r = 0; r < headRows; r++) {
        System.arraycopy(head, (int) (order.modelRow(first + r) - first) * cols, turned, r * cols, cols);
      }
      sink.floats(turned, turned.length);
    }
  }

  /** The tensors in llama.cpp's order: embedding, layers, norm, head. */
  private List<GgufWriter.Tensor> tensors(Map<String, String> modelNames) {
    GgufMix.Model facts = new GgufMix.Model(config.numHiddenLayers(), config.groupSize() > 1, !model.ownHead());
    List<GgufWriter.Tensor> tensors = new ArrayList<>();
    if (config.rope().type().equals("llama3")) {
      tensors.add(new GgufWriter.Tensor(ROPE_FACTORS, GgmlType.F32, config.headDim() / 2));
    }
    for (String name : model.names()) {
      String ggufName = family.ggufName(name);
      long[] shape = model.shape(name);
      modelNames.put(ggufName, name);
      tensors.add(new GgufWriter.Tensor(ggufName, mix.of(ggufName, shape, facts), shape));
    }
    return tensors;
  }

  private float[] ropeFactors() {
    RopeConfig r = config.rope();
    return RopeFactors.of(
        config.headDim(), r.theta(), r.factor(), r.lowFreqFactor(), r.highFreqFactor(), r.originalMaxPositionEmbeddings());
  }

  private Map<String, GgufValue> metadata() {
    Map<String, GgufValue> keys = new LinkedHashMap<>();
    String p = family.architecture() + ".";
    keys.put("general.architecture", GgufValue.string(family.architecture()));
    keys.put("general.type", GgufValue.string("model"));
    keys.put("general.name", GgufValue.string(title));
    keys.put(p + "block_count", GgufValue.u32(config.numHiddenLayers()));
    keys.put(p + "context_length", GgufValue.u32(config.maxPositionEmbeddings()));
    keys.put(p + "embedding_length", GgufValue.u32(config.hiddenSize()));
    keys.put(p + "feed_forward_length", GgufValue.u32(config.intermediateSize()));
    keys.put(p + "attention.head_count", GgufValue.u32(config.numAttentionHeads()));
    keys.put(p + "attention.head_count_kv", GgufValue.u32(config.numKeyValueHeads()));
    keys.put(p + "attention.key_length", GgufValue.u32(config.headDim()));
    keys.put(p + "attention.value_length", GgufValue.u32(config.headDim()));
    keys.put(p + "attention.layer_norm_rms_epsilon", GgufValue.f32(config.rmsNormEps()));
    keys.put(p + "rope.dimension_count", GgufValue.u32(config.headDim()));
    keys.put(p + "rope.freq_base", GgufValue.f32(config.rope().theta()));
    if (config.rope().type().equals("linear")) {
      keys.put(p + "rope.scaling.type", GgufValue.string("linear"));
      keys.put(p + "rope.scaling.factor", GgufValue.f32(config.rope().factor()));
    }
    keys.put(p + "vocab_size", GgufValue.u32(config.vocabSize()));
    keys.put("general.file_type", GgufValue.u32(mix.fileType()));
    if (mix.quantized()) {
      keys.put("general.quantization_version", GgufValue.u32(2));
    }
    keys.putAll(TokenizerKeys.of(folder, config.vocabSize(), GenerationConfig.read(folder, config), template));
    return keys;
  }
}
