package dev.oribi.export;

import dev.oribi.gguf.GgufModel;
import dev.oribi.io.Checkpoint;
import dev.oribi.io.TensorInfo;
import dev.oribi.quant.Nf4Format;
import dev.oribi.quant.Nf4Values;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.List;

/** The weights of a model folder as fp32 rows under Hugging Face's names, whatever they are stored as. Closing it closes the files. */
interface BaseWeights extends AutoCloseable {
  /** Every weight, in the order of the files. */
  List<String> names();

  long[] shape(String name);

  /** Fills {@code into} with whole rows from {@code row} on; a vector is one row. */
  void readRows(String name, long row, FloatBuffer into);

  @Override
  void close();

  static BaseWeights open(Path folder) {
    return GgufModel.isIn(folder) ? new OfGguf(GgufModel.open(folder)) : new OfCheckpoint(Checkpoint.open(folder));
  }

  /** Plain tensors, and those in NF4. */
  record OfCheckpoint(Checkpoint files) implements BaseWeights {
    @Override
    public List<String> names() {
      return files.tensors().keySet().stream()
          .filter(n -> Nf4Format.SUFFIXES.stream().noneMatch(n::endsWith) && !n.endsWith("rotary_emb.inv_freq"))
          .toList();
    }

    @Override
    public long[] shape(String name) {
      return Nf4Format.isStored(files, name) ? new Nf4Values(files, name).shape() : files.tensor(name).shape();
    }

    @Override
    public void readRows(String name, long row, FloatBuffer into) {
      long[] shape = shape(name);
      long first = row * shape[shape.length - 1];
      if (Nf4Format.isStored(files, name)) {
        new Nf4Values(files, name).read(first, into);
      } else {
        TensorInfo info = files.tensor(name);
        files.readFloats(info, first, into);
      }
    }

    @Override
    public void close() {
      files.close();
    }
  }

  /** Blocks of a GGUF file. */
  record OfGguf(GgufModel model) implements BaseWeights {
    @Override
    public List<String> names() {
      return List.copyOf(model.tensors().keySet());
    }

    @Override
    public long[] shape(String name) {
      return model.tensor(name).shape();
    }

    @Override
    public void readRows(String name, long row, FloatBuffer into) {
      model.readRows(name, row, into);
    }

    @Override
    public void close() {
      model.close();
    }
  }
}
