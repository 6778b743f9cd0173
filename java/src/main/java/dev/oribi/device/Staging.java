package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaEventCreateWithFlags;
import static org.bytedeco.cuda.global.cudart.cudaEventDestroy;
import static org.bytedeco.cuda.global.cudart.cudaEventDisableTiming;
import static org.bytedeco.cuda.global.cudart.cudaEventRecord;
import static org.bytedeco.cuda.global.cudart.cudaEventSynchronize;
import static org.bytedeco.cuda.global.cudart.cudaFreeHost;
import static org.bytedeco.cuda.global.cudart.cudaMallocHost;
import static org.bytedeco.cuda.global.cudart.cudaMemcpyAsync;
import static org.bytedeco.cuda.global.cudart.cudaMemcpyDefault;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.stream.IntStream;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Copies between Java's memory and a card through a ring of pinned slots: only pinned memory can be copied while the host
 * goes on. A write fills a slot and leaves the copy to the stream; a slot is filled again once its copy is done, which an
 * event tells. Slots are pinned when they are first needed.
 */
final class Staging implements AutoCloseable {
  /** Long enough for the bus to run at its full rate. */
  private static final int SLOT_BYTES = 4 << 20;

  /** The six small arrays of a micro-batch, twice over, and room for the chunks of a checkpoint. */
  private static final int SLOTS = 16;

  /** Puts the next {@code n} bytes into a slot, or takes them out of it. */
  interface Mover {
    void move(ByteBuffer slot, int n);
  }

  private static final class Slot {
    private final BytePointer bytes = new BytePointer((Pointer) null);
    private final CUevent_st done = new CUevent_st();
    private final ByteBuffer view;

    Slot() {
      Cuda.check(cudaMallocHost(bytes, SLOT_BYTES), "pinning " + SLOT_BYTES + " bytes of host memory");
      Cuda.check(cudaEventCreateWithFlags(done, cudaEventDisableTiming), "making an event");
      view = bytes.capacity(SLOT_BYTES).asByteBuffer();
    }

    ByteBuffer view() {
      return view.duplicate().clear().order(ByteOrder.nativeOrder());
    }

    void await() {
      Cuda.check(cudaEventSynchronize(done), "waiting for a copy");
    }

    void close() {
      cudaEventDestroy(done);
      cudaFreeHost(bytes);
    }
  }

  private final CUstream_st stream;
  private final Slot[] slots = new Slot[SLOTS];
  private int next;

  Staging(CUstream_st stream) {
    this.stream = stream;
  }

  private Slot take() {
    int at = next;
    next = (next + 1) % SLOTS;
    if (slots[at] == null) {
      slots[at] = new Slot();
    } else {
      slots[at].await();
    }
    return slots[at];
  }

  void write(Mem to, long bytes, Mover fill) {
    for (long at = 0; at < bytes; at += SLOT_BYTES) {
      int n = (int) Math.min(SLOT_BYTES, bytes - at);
      Slot slot = take();
      fill.move(slot.view(), n);
      send(to.slice(at, n), slot);
    }
  }

  /**
   * The same for bytes that lie in the host's memory, above all in a mapped file: several threads fill slots, since one of them,
   * with the faults of pages that it sees first, does not keep up with the bus.
   */
  void write(Mem to, ByteBuffer source) {
    long bytes = source.remaining();
    if (bytes <= SLOT_BYTES) { // numbers of a step, which the card waits for
      write(to, bytes, (slot, n) -> slot.put(source.duplicate()));
      return;
    }
    Slot[] group = new Slot[SLOTS / 2]; // the other half is on its way meanwhile
    for (long at = 0; at < bytes; at += (long) group.length * SLOT_BYTES) {
      long begin = at;
      int count = (int) Math.min(group.length, (bytes - at + SLOT_BYTES - 1) / SLOT_BYTES);
      for (int i = 0; i < count; i++) {
        group[i] = take();
      }
      IntStream.range(0, count).parallel().forEach(i -> {
        long from = begin + (long) i * SLOT_BYTES;
        int n = (int) Math.min(SLOT_BYTES, bytes - from);
        group[i].view().put(source.slice(source.position() + (int) from, n));
      });
      for (int i = 0; i < count; i++) {
        long from = begin + (long) i * SLOT_BYTES;
        send(to.slice(from, Math.min(SLOT_BYTES, bytes - from)), group[i]);
      }
    }
  }

  private void send(Mem to, Slot slot) {
    Cuda.check(cudaMemcpyAsync(to.pointer(), slot.bytes, to.bytes(), cudaMemcpyDefault, stream), "copying to the device");
    Cuda.check(cudaEventRecord(slot.done, stream), "recording an event");
  }

  /** Copies run one slot ahead of what is taken out. {@code settle} waits for the last and reports what went wrong. */
  void read(Mem from, long bytes, Runnable settle, Mover empty) {
    Slot previous = null;
    int pending = 0;
    for (long at = 0; at < bytes; at += SLOT_BYTES) {
      int n = (int) Math.min(SLOT_BYTES, bytes - at);
      Slot slot = take();
      Mem part = from.slice(at, n);
      Cuda.check(
          cudaMemcpyAsync(slot.bytes, part.pointer(), n, cudaMemcpyDefault, stream), "copying from the device");
      Cuda.check(cudaEventRecord(slot.done, stream), "recording an event");
      if (previous != null) {
        previous.await();
        empty.move(previous.view(), pending);
      }
      previous = slot;
      pending = n;
    }
    settle.run();
    if (previous != null) {
      empty.move(previous.view(), pending);
    }
  }

  @Override
  public void close() {
    for (int i = 0; i < SLOTS; i++) {
      if (slots[i] != null) {
        slots[i].await();
        slots[i].close();
        slots[i] = null;
      }
    }
  }
}
