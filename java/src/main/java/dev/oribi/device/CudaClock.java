package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaEventCreate;
import static org.bytedeco.cuda.global.cudart.cudaEventDestroy;
import static org.bytedeco.cuda.global.cudart.cudaEventElapsedTime;
import static org.bytedeco.cuda.global.cudart.cudaEventRecord;
import static org.bytedeco.cuda.global.cudart.cudaEventSynchronize;

import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cudart.CUevent_st;
import org.bytedeco.cuda.cudart.CUstream_st;

/** Events on a stream. They are made once and used again after a reset. */
final class CudaClock implements Clock {
  private final CUstream_st stream;
  private final List<CUevent_st> events = new ArrayList<>();
  private int count;

  CudaClock(CUstream_st stream) {
    this.stream = stream;
  }

  @Override
  public int mark() {
    if (count == events.size()) {
      CUevent_st fresh = new CUevent_st();
      Cuda.check(cudaEventCreate(fresh), "making an event");
      events.add(fresh);
    }
    Cuda.check(cudaEventRecord(events.get(count), stream), "recording an event");
    return count++;
  }

  @Override
  public long nanos(int from, int to) {
    float[] milliseconds = new float[1];
    Cuda.check(cudaEventSynchronize(events.get(to)), "waiting for an event");
    Cuda.check(cudaEventElapsedTime(milliseconds, events.get(from), events.get(to)), "reading two events");
    return Math.round(1e6 * milliseconds[0]);
  }

  @Override
  public void reset() {
    count = 0;
  }

  @Override
  public void close() {
    events.forEach(e -> cudaEventDestroy(e));
    events.clear();
    count = 0;
  }
}
