package dev.oribi.program;

import dev.oribi.OribiException;
import dev.oribi.device.Lanes;
import dev.oribi.device.Lanes.Lane;
import dev.oribi.device.Recorder;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs a program op by op, or, where the device can record its work, replays recordings of its segments. A listener sees
 * each op before and after: the profiler and the tests are listeners. While one listens, nothing is replayed.
 */
public final class Executor implements AutoCloseable {
  /** Told of every op. The default does nothing. */
  public interface Listener {
    default void before(Op op, Run run) {}

    default void after(Op op, Run run) {}
  }

  private static final Listener SILENT = new Listener() {};

  private final Recordings recordings;
  private final boolean debugSync;
  private Listener listener = SILENT;

  /** One that issues every op, each time. */
  public Executor() {
    this(null, false);
  }

  /**
   * @param recorder of the device; null: every op is issued each time
   * @param debugSync wait after every op, so that a fault of the device names its op; then nothing is recorded
   */
  public Executor(Recorder recorder, boolean debugSync) {
    this.recordings = recorder == null || debugSync ? null : new Recordings(recorder);
    this.debugSync = debugSync;
  }

  public void listen(Listener listener) {
    this.listener = listener == null ? SILENT : listener;
  }

  /**
   * Issues every op in order. On a GPU the work goes on after this returns, until something is read.
   *
   * @throws OribiException that names the op at fault
   */
  public void run(Program program, Run run) {
    if (recordings == null || listener != SILENT) {
      issue(program.ops(), run);
      return;
    }
    for (Segment segment : recordings.segments(program)) {
      if (segment.recorded()) {
        recordings.run(segment, run, () -> issue(segment.ops(), run));
      } else {
        issue(segment.ops(), run);
      }
    }
  }

  /** Whether runs are recorded, so that it is worth while to have few different numbers of rows; see {@link RowBuckets}. */
  public boolean records() {
    return recordings != null;
  }

  /** The same for a program, which must be complete: one with dropout in all of its segments is issued each time. */
  public boolean records(Program program) {
    return recordings != null && recordings.segments(program).stream().anyMatch(Segment::recorded);
  }

  private void issue(List<Op> ops, Run run) {
    Lanes lanes = run.lanes();
    Map<Op, Integer> marks = new IdentityHashMap<>();
    lanes.begin();
    for (Op op : ops) {
      listener.before(op, run);
      try {
        if (op.lane() != Lane.MAIN) {
          lanes.fork(op.lane());
          op.action().issue(run.beside());
          marks.put(op, lanes.mark(op.lane()));
        } else if (op.joined() != null) {
          lanes.join(marks.get(op.joined()));
        } else {
          op.action().issue(run);
        }
        if (debugSync) {
          run.kernels().synchronize();
        }
      } catch (OribiException e) {
        throw new OribiException(op.kind().label() + " " + op.name() + ": " + e.getMessage(), e);
      }
      listener.after(op, run);
    }
  }

  /** How many segments were replayed so far, for tests and benchmarks. */
  public long replays() {
    return recordings == null ? 0 : recordings.replays();
  }

  /** Frees the recordings. */
  @Override
  public void close() {
    if (recordings != null) {
      recordings.close();
    }
  }
}
