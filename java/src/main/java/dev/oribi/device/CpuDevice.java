package dev.oribi.device;

import dev.oribi.OribiException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;

/** The machine's own memory. Copies are plain copies; nothing is asynchronous. */
public final class CpuDevice implements Device {
  private static final int ALIGNMENT = 4096;
  private static final long HEADROOM = 256L << 20;

  static {
    Loader.load(Pointer.class);
  }

  @Override
  public String name() {
    return "cpu";
  }

  @Override
  public long freeBytes() {
    return Math.max(0, available() - HEADROOM);
  }

  @Override
  public long freeHostBytes() {
    return freeBytes();
  }

  @Override
  public Arena allocateHost(String what, long bytes) {
    return allocate(what, bytes);
  }

  /**
   * What can be had without swapping, the page cache counted as free: the kernel's MemAvailable, and no more than a container, whose
   * processes are killed beyond its limit, has left.
   */
  static long available() {
    return Math.min(number(Path.of("/proc/meminfo"), "MemAvailable:", Long.MAX_VALUE / 1024) * 1024, ControlGroup.available(Path.of("/")));
  }

  /** The number behind a word at the beginning of a line of a file of the kernel. */
  static long number(Path file, String word, long otherwise) {
    try {
      for (String line : Files.readAllLines(file)) {
        if (line.startsWith(word)) {
          return Long.parseLong(line.replaceAll("[^0-9]", ""));
        }
      }
    } catch (IOException | NumberFormatException e) {
      // Not a Linux: the allocation itself has to tell.
    }
    return otherwise;
  }

  @Override
  public Arena allocate(String what, long bytes) {
    long free = freeBytes();
    if (bytes > free) {
      throw new OribiException(
          String.format(
              "%s needs %.2f GiB of memory and %.2f GiB are free: lower --per-device-train-batch-size or --max-seq-length,"
                  + " or add --gradient-checkpointing; `oribi plan` shows where the memory goes",
              what, gib(bytes), gib(free)));
    }
    Pointer block = Pointer.malloc(bytes + ALIGNMENT);
    if (block == null || block.isNull()) {
      throw new OribiException(
          String.format("%s needs %.2f GiB of memory and the system refused it", what, gib(bytes)));
    }
    return new Block(block, bytes);
  }

  private static double gib(long bytes) {
    return bytes / (double) (1L << 30);
  }

  @Override
  public void write(Mem to, ByteBuffer source) {
    new BytePointer(to.slice(0, source.remaining()).pointer())
        .capacity(source.remaining())
        .asByteBuffer()
        .put(source.duplicate());
  }

  @Override
  public void write(Mem to, float[] source, int offset, int length) {
    to.slice(0, 4L * length).floats().put(source, offset, length);
  }

  @Override
  public void write(Mem to, int[] source, int length) {
    to.slice(0, 4L * length).ints().put(source, 0, length);
  }

  @Override
  public void read(Mem from, ByteBuffer into) {
    if (!into.hasRemaining()) {
      return; // A pointer of capacity 0 becomes a buffer of another size.
    }
    ByteBuffer source =
        new BytePointer(from.slice(0, into.remaining()).pointer()).capacity(into.remaining()).asByteBuffer();
    into.put(source);
  }

  @Override
  public void read(Mem from, float[] into, int offset, int length) {
    from.slice(0, 4L * length).floats().get(into, offset, length);
  }

  @Override
  public double readDouble(Mem from) {
    return from.slice(0, 8).doubles().get();
  }

  @Override
  public int readInt(Mem from) {
    return from.slice(0, 4).ints().get();
  }

  @Override
  public void close() {}

  private static final class Block implements Arena {
    private final Mem all;
    private Pointer block;

    Block(Pointer block, long bytes) {
      this.block = block;
      long begin = (block.address() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
      all = new Mem(begin, bytes);
      Pointer.memset(all.pointer(), 0, bytes);
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
        Pointer.free(block);
        block = null;
      }
    }
  }
}
