package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaErrorMemoryAllocation;
import static org.bytedeco.cuda.global.cudart.cudaGetLastError;
import static org.bytedeco.cuda.global.cudart.cudaMalloc;
import static org.bytedeco.cuda.global.cudart.cudaMemGetInfo;
import static org.bytedeco.cuda.global.cudart.cudaMemsetAsync;
import static org.bytedeco.cuda.global.cudart.cudaSetDevice;

import dev.oribi.OribiException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.function.DoubleSupplier;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.SizeTPointer;

/**
 * An NVIDIA GPU. Everything goes to one stream, that of the kernels, so that copies and kernels keep their order; only
 * reading waits. Copies go through pinned memory ({@link Staging}).
 */
public final class CudaDevice implements Device {
  private static final int ALIGNMENT = 4096;

  /** Left for what CUDA, cuBLAS and cuDNN load when a kernel of theirs runs for the first time. */
  private static final long HEADROOM = 256L << 20;

  private final int index;
  private final String card;
  private final CUstream_st stream;
  private final Runnable settle;
  private final Staging staging;
  private final Answers answers;

  /**
   * To be made only once the kernels have found the card.
   *
   * @param index of the card
   * @param card its name, for messages
   * @param stream address of the kernels' stream, which must outlive this
   * @param settle waits for the stream, and throws what went wrong on it
   */
  public CudaDevice(int index, String card, long stream, Runnable settle) {
    Cuda.load();
    this.index = index;
    this.card = card;
    this.stream = new CUstream_st(new Mem(stream, 0).pointer());
    this.settle = () -> {
      settle.run();
      settled();
    };
    select();
    this.staging = new Staging(this.stream);
    this.answers = new Answers(this.stream, settle);
  }

  private void settled() {
    answers.settled();
  }

  /** The current card is a property of the thread. */
  private void select() {
    Cuda.check(cudaSetDevice(index), "selecting CUDA device " + index);
  }

  @Override
  public String name() {
    return "cuda";
  }

  /** What neither this nor any other program holds, less a headroom. */
  @Override
  public long freeBytes() {
    select();
    try (SizeTPointer free = new SizeTPointer(1);
        SizeTPointer total = new SizeTPointer(1)) {
      Cuda.check(cudaMemGetInfo(free, total), "asking for the free memory");
      return Math.max(0, free.get() - HEADROOM);
    }
  }

  @Override
  public Arena allocate(String what, long bytes) {
    long free = freeBytes();
    if (bytes > free) {
      throw tooLittle(what, bytes, free);
    }
    Pointer block = new Pointer();
    int status = cudaMalloc(block, bytes + ALIGNMENT);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError(); // Forget it: a later call must not report it again.
      throw tooLittle(what, bytes, freeBytes());
    }
    Cuda.check(status, what + ": allocating " + bytes + " bytes");
    Block made = new Block(block, bytes, cudart::cudaFree);
    if (bytes > 0) {
      Cuda.check(cudaMemsetAsync(made.all.pointer(), 0, bytes, stream), what + ": clearing its memory");
      settle.run();
    }
    return made;
  }

  /** A quarter stays for the page cache, in which the checkpoint and the data lie, and for other programs. */
  @Override
  public long freeHostBytes() {
    return CpuDevice.available() / 4 * 3;
  }

  /** Pinned: copies run at the bus's rate beside kernels, and kernels may read it in place. */
  @Override
  public Arena allocateHost(String what, long bytes) {
    select();
    long free = freeHostBytes();
    Pointer block = bytes > free ? null : PinnedMemory.take(what, bytes + ALIGNMENT);
    if (block == null) {
      throw new OribiException(
          String.format(
              "%s needs %.2f GiB of the host's memory beside the card's and %.2f GiB can be had: give the card more with"
                  + " --memory, or lower --per-device-train-batch-size or --max-seq-length",
              what, gib(bytes), gib(free)));
    }
    return new Block(block, bytes, PinnedMemory::free);
  }

  @Override
  public Lanes lanes(long ahead) {
    return new CudaLanes(index, stream, new CUstream_st(new Mem(ahead, 0).pointer()));
  }

  private OribiException tooLittle(String what, long bytes, long free) {
    return new OribiException(
        String.format(
            "%s needs %.2f GiB of memory and %.2f GiB are free on %s: lower --per-device-train-batch-size or"
                + " --max-seq-length, add --gradient-checkpointing, or end other programs on the card; `oribi plan` shows"
                + " where the memory goes",
            what, gib(bytes), gib(free), card));
  }

  private static double gib(long bytes) {
    return bytes / (double) (1L << 30);
  }

  @Override
  public void write(Mem to, ByteBuffer source) {
    select();
    staging.write(to.slice(0, source.remaining()), source);
  }

  @Override
  public void write(Mem to, float[] source, int offset, int length) {
    select();
    int[] at = {offset};
    staging.write(to.slice(0, 4L * length), 4L * length, (slot, n) -> {
      slot.asFloatBuffer().put(source, at[0], n / 4);
      at[0] += n / 4;
    });
  }

  @Override
  public void write(Mem to, int[] source, int length) {
    select();
    int[] at = {0};
    staging.write(to.slice(0, 4L * length), 4L * length, (slot, n) -> {
      slot.asIntBuffer().put(source, at[0], n / 4);
      at[0] += n / 4;
    });
  }

  @Override
  public void read(Mem from, ByteBuffer into) {
    select();
    staging.read(from.slice(0, into.remaining()), into.remaining(), settle, (slot, n) -> into.put(slot.limit(n)));
  }

  @Override
  public void read(Mem from, float[] into, int offset, int length) {
    select();
    int[] at = {offset};
    staging.read(from.slice(0, 4L * length), 4L * length, settle, (slot, n) -> {
      slot.asFloatBuffer().get(into, at[0], n / 4);
      at[0] += n / 4;
    });
  }

  @Override
  public double readDouble(Mem from) {
    ByteBuffer value = ByteBuffer.allocate(8).order(ByteOrder.nativeOrder());
    read(from, value);
    return value.getDouble(0);
  }

  @Override
  public DoubleSupplier readDoubleLater(Mem from) {
    select();
    return answers.ask(from);
  }

  @Override
  public int readInt(Mem from) {
    ByteBuffer value = ByteBuffer.allocate(4).order(ByteOrder.nativeOrder());
    read(from, value);
    return value.getInt(0);
  }

  @Override
  public Clock clock() {
    select();
    return new CudaClock(stream);
  }

  @Override
  public Recorder recorder() {
    return new CudaRecorder(index, stream);
  }

  @Override
  public void close() {
    select();
    staging.close();
    answers.close();
  }

  /** What gives a block back: a function of the runtime. */
  private interface Free {
    int free(Pointer block);
  }

  /** A block of the card's memory, or of the host's that is pinned; aligned within a block that is a little larger. */
  private final class Block implements Arena {
    private final Mem all;
    private final Free free;
    private Pointer block;

    Block(Pointer block, long bytes, Free free) {
      this.block = block;
      this.free = free;
      all = new Mem((block.address() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, bytes);
    }

    @Override
    public Mem all() {
      return all;
    }

    @Override
    public long bytes() {
      return all.bytes();
    }

    @Override
    public void close() {
      if (block != null) {
        select();
        settle.run(); // A copy or a kernel may still be under way.
        int status = free.free(block);
        block = null;
        Cuda.check(status, "freeing memory");
      }
    }
  }
}
