package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaEventCreateWithFlags;
import static org.bytedeco.cuda.global.cudart.cudaEventDestroy;
import static org.bytedeco.cuda.global.cudart.cudaEventDisableTiming;
import static org.bytedeco.cuda.global.cudart.cudaEventRecord;
import static org.bytedeco.cuda.global.cudart.cudaMemcpyAsync;
import static org.bytedeco.cuda.global.cudart.cudaMemcpyDefault;
import static org.bytedeco.cuda.global.cudart.cudaSetDevice;
import static org.bytedeco.cuda.global.cudart.cudaStreamCreateWithFlags;
import static org.bytedeco.cuda.global.cudart.cudaStreamDestroy;
import static org.bytedeco.cuda.global.cudart.cudaStreamNonBlocking;
import static org.bytedeco.cuda.global.cudart.cudaStreamWaitEvent;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;

/**
 * Streams beside the kernels' stream, held in step by events. While the main stream is captured, a lane that was forked is
 * captured with it, and becomes a branch of the graph.
 */
final class CudaLanes implements Lanes {
  private final int index;
  private final CUstream_st main;
  private final CUstream_st ahead;
  private final CUstream_st out = new CUstream_st();
  private final CUstream_st in = new CUstream_st();
  private final List<CUevent_st> events = new ArrayList<>();
  private int used;

  /** {@code ahead} is the stream of other kernels' context, which must outlive this. */
  CudaLanes(int index, CUstream_st main, CUstream_st ahead) {
    this.index = index;
    this.main = main;
    this.ahead = ahead;
    Cuda.check(cudaSetDevice(index), "selecting CUDA device " + index);
    Cuda.check(cudaStreamCreateWithFlags(out, cudaStreamNonBlocking), "making a stream");
    Cuda.check(cudaStreamCreateWithFlags(in, cudaStreamNonBlocking), "making a stream");
  }

  private CUstream_st stream(Lane lane) {
    return switch (lane) {
      case MAIN -> main;
      case AHEAD -> ahead;
      case OUT -> out;
      case IN -> in;
    };
  }

  private int event() {
    if (used == events.size()) {
      CUevent_st fresh = new CUevent_st();
      Cuda.check(cudaEventCreateWithFlags(fresh, cudaEventDisableTiming), "making an event");
      events.add(fresh);
    }
    return used++;
  }

  @Override
  public void begin() {
    used = 0;
  }

  @Override
  public void fork(Lane lane) {
    int here = mark(Lane.MAIN);
    Cuda.check(cudaStreamWaitEvent(stream(lane), events.get(here), 0), "waiting for the main stream");
  }

  @Override
  public int mark(Lane lane) {
    int event = event();
    Cuda.check(cudaEventRecord(events.get(event), stream(lane)), "recording an event");
    return event;
  }

  @Override
  public void join(int mark) {
    Cuda.check(cudaStreamWaitEvent(main, events.get(mark), 0), "waiting for a lane");
  }

  @Override
  public void copy(Lane lane, Mem to, Mem from) {
    Cuda.check(
        cudaMemcpyAsync(to.pointer(), from.pointer(), from.bytes(), cudaMemcpyDefault, stream(lane)),
        "copying between the host and the device");
  }

  @Override
  public void close() {
    cudaSetDevice(index);
    events.forEach(e -> cudaEventDestroy(e));
    events.clear();
    cudaStreamDestroy(out);
    cudaStreamDestroy(in);
  }
}
