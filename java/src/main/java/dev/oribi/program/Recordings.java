package dev.oribi.program;

import dev.oribi.device.Recorder;
import dev.oribi.device.Recorder.Recording;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Recorded runs of programs, each for one set of row counts. The first run of a set is issued as it is: kernels are loaded
 * and algorithms chosen then, which a recording may not do. The second is recorded and replayed, and all later ones are
 * replayed. Batches whose row counts never come back cost nothing but a place in the list.
 */
final class Recordings implements AutoCloseable {
  /** A recording of a deep model takes some megabytes of the card's memory. */
  private static final int KEPT = 16;

  /** Sets of row counts that were seen once. */
  private static final int SEEN = 1024;

  /** All of a run that is frozen in a recording. */
  private record Key(Program program, long tokens, long targets, long sequences, long longest) {}

  private final Recorder recorder;
  private final Map<Key, Boolean> seen = new Recent<>(SEEN);
  private final Map<Key, Recording> recordings = new Recent<>(KEPT);
  private long replays;

  Recordings(Recorder recorder) {
    this.recorder = recorder;
  }

  /** Dropout draws from another stream in every run, and the number of the stream would be frozen. */
  boolean serves(Program program) {
    return program.ops().size() > 1 && program.ops().stream().noneMatch(op -> op.kind() == Op.Kind.DROPOUT);
  }

  void run(Program program, Run run, Runnable issue) {
    Key key = new Key(program, run.tokens(), run.targets(), run.sequences(), run.longest());
    Recording recording = recordings.get(key);
    if (recording == null) {
      if (seen.put(key, true) == null) {
        issue.run();
        return;
      }
      recording = recorder.record(issue);
      recordings.put(key, recording);
    }
    recording.replay();
    replays++;
  }

  long replays() {
    return replays;
  }

  @Override
  public void close() {
    recordings.values().forEach(Recording::close);
    recordings.clear();
    seen.clear();
  }

  /** Forgets what was used least recently; a recording is closed when it goes. */
  private static final class Recent<V> extends LinkedHashMap<Key, V> {
    private static final long serialVersionUID = 1;

    private final int most;

    Recent(int most) {
      super(16, 0.75f, true);
      this.most = most;
    }

    @Override
    protected boolean removeEldestEntry(Map.Entry<Key, V> eldest) {
      if (size() <= most) {
        return false;
      }
      if (eldest.getValue() instanceof Recording recording) {
        recording.close();
      }
      return true;
    }
  }
}
