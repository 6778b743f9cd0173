package dev.oribi.generate;

import dev.oribi.OribiException;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/** A base model in memory with room for an adapter, which can be taken off and changed. */
final class Runner implements AutoCloseable {
  private final Path folder;
  private final TextModel.Storage storage;
  private final Machine machine;
  private final int context;
  private Generator generator;
  private Weights weights;
  private Path adapter;
  private LoraConfig room;

  Runner(Path folder, Path adapter, TextModel.Storage storage, Machine machine, int context) {
    this.folder = folder;
    this.storage = storage;
    this.machine = machine;
    this.context = Math.min(context, ModelConfig.read(folder).contextLength());
    load(adapter);
  }

  private void load(Path wanted) {
    ModelConfig config = ModelConfig.read(folder);
    FrozenStorage held = FrozenStorage.of(config, storage.layersIn4bit(), storage.headIn8bit()).withHalves(!machine.isCuda());
    Decoder model = new Decoder(config, machine.defaultType(config), TextModel.training(wanted), held, context);
    Generator made = new Generator(model, machine, context);
    try {
      Weights filled = made.take();
      filled.load(folder, wanted);
      weights = filled;
    } catch (RuntimeException e) {
      made.close();
      throw e;
    }
    generator = made;
    adapter = wanted;
    room = wanted == null ? null : LoraConfig.read(wanted);
  }

  /**
   * Another adapter, or none. If it cannot be loaded the one before stays.
   *
   * <p>What fits the present room goes into it; otherwise everything is loaded again, after the memory was given back.
   */
  void use(Path wanted) {
    LoraConfig next = wanted == null ? null : LoraConfig.read(wanted);
    boolean fits = generator != null && room != null && room.modulesToSave().isEmpty() && (next == null || sameShape(next, room));
    if (!fits && !(generator != null && room == null && next == null)) {
      reload(wanted);
      return;
    }
    if (next != null) {
      try {
        weights.loadAdapter(wanted);
      } catch (RuntimeException e) {
        reload(adapter); // some tensors may be new already
        throw e;
      }
    } else if (room != null) {
      weights.clearAdapter();
    }
    adapter = wanted;
    generator.forget();
  }

  private void reload(Path wanted) {
    Path before = adapter;
    close();
    try {
      load(wanted);
    } catch (RuntimeException e) {
      if (!Objects.equals(wanted, before)) {
        load(before);
      }
      throw e;
    }
  }

  /** Whether the tensors and the scales are the same; the scale is part of the program. */
  private static boolean sameShape(LoraConfig a, LoraConfig b) {
    return a.r() == b.r() && a.loraAlpha() == b.loraAlpha() && a.useRslora() == b.useRslora()
        && a.targetModules().equals(b.targetModules()) && a.targetParameters().equals(b.targetParameters())
        && Objects.equals(a.excludeModules(), b.excludeModules())
        && a.modulesToSave().isEmpty() && b.modulesToSave().isEmpty() && same(a.rankPattern(), b.rankPattern())
        && same(a.alphaPattern(), b.alphaPattern());
  }

  private static boolean same(Map<String, ?> a, Map<String, ?> b) {
    return a.equals(b);
  }

  Generator generator() {
    if (generator == null) {
      throw new OribiException("there is no model: neither the adapter that was asked for nor the one before could be loaded; ask for another, or none");
    }
    return generator;
  }

  Path adapter() {
    return adapter;
  }

  /** Most tokens of prompt and answer. */
  int context() {
    return context;
  }

  Optional<String> headReport() {
    return weights.headReport();
  }

  @Override
  public void close() {
    if (generator != null) {
      generator.close();
      generator = null;
    }
  }
}
