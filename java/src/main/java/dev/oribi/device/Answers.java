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

import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.util.function.DoubleSupplier;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * Numbers that a card will have computed: a copy to pinned memory is left to the stream when the number is asked for, and
 * whoever wants it waits for that copy alone, not for what was issued after it. A place is used again once its number was
 * taken out, so that answers may be left unread and read in any order.
 */
final class Answers implements AutoCloseable {
  /** A trainer has two on their way at once. */
  private static final int PLACES = 8;

  private final CUstream_st stream;
  private final Runnable settle;
  private final BytePointer pinned = new BytePointer((Pointer) null);
  private final CUevent_st[] done = new CUevent_st[PLACES];
  private final Answer[] waiting = new Answer[PLACES];
  private DoubleBuffer values;
  private Answer newest;
  private int next;

  /** @param settle waits for the stream, and throws what went wrong on it */
  Answers(CUstream_st stream, Runnable settle) {
    this.stream = stream;
    this.settle = settle;
  }

  private final class Answer implements DoubleSupplier {
    private final int place;
    private boolean known;
    private double value;

    Answer(int place) {
      this.place = place;
    }

    /** Nothing follows the newest, so there it costs nothing to wait for all and to hear of faults. */
    @Override
    public double getAsDouble() {
      if (!known) {
        if (this == newest) {
          settle.run();
          newest = null;
        }
        take();
      }
      return value;
    }

    private void take() {
      Cuda.check(cudaEventSynchronize(done[place]), "waiting for a number");
      value = values.get(place);
      known = true;
      waiting[place] = null;
    }
  }

  DoubleSupplier ask(Mem from) {
    if (values == null) {
      pin();
    }
    int place = next;
    next = (next + 1) % PLACES;
    if (waiting[place] != null) {
      waiting[place].take();
    }
    Pointer to = new Mem(pinned.address() + 8L * place, 8).pointer();
    Cuda.check(cudaMemcpyAsync(to, from.slice(0, 8).pointer(), 8, cudaMemcpyDefault, stream), "copying from the device");
    Cuda.check(cudaEventRecord(done[place], stream), "recording an event");
    waiting[place] = newest = new Answer(place);
    return newest;
  }

  /** Somebody waited for all that was issued, and would have been told of faults. */
  void settled() {
    newest = null;
  }

  private void pin() {
    Cuda.check(cudaMallocHost(pinned, 8L * PLACES), "pinning host memory");
    for (int i = 0; i < PLACES; i++) {
      done[i] = new CUevent_st();
      Cuda.check(cudaEventCreateWithFlags(done[i], cudaEventDisableTiming), "making an event");
    }
    values = pinned.capacity(8L * PLACES).asByteBuffer().order(ByteOrder.nativeOrder()).asDoubleBuffer();
  }

  @Override
  public void close() {
    if (values == null) {
      return;
    }
    for (int i = 0; i < PLACES; i++) {
      cudaEventSynchronize(done[i]); // a copy that nobody asked for may be on its way
      cudaEventDestroy(done[i]);
    }
    cudaFreeHost(pinned);
    values = null;
  }
}
