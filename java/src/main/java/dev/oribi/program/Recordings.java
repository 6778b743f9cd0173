package dev.oribi.program;

import dev.oribi.device.Recorder;
import dev.oribi.device.Recorder.Recording;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Recorded runs of segments, each for one set of row counts. The first run of a set is issued as it is: kernels are loaded
 * and algorithms chosen then, which a recording may not do. The second is recorded and replayed, and all later ones are
 * replayed. Once all places are taken, a set gets that of the least recently used one as soon as it was seen more often;
 * otherwise recordings would drive each other out, and making one costs more than issuing its ops.
 */
final class Recordings implements AutoCloseable {
  /**
   * A recording of a deep model takes some megabytes of the card's memory, which are not planned: they come out of what the
   * device leaves free for libraries. A step has two recordings for each number of tokens.
   */
  private static final int KEPT = 32;

  /** Sets of row counts that are counted. */
  private static final int SEEN = 1024;

  /** All of a run that is frozen in a recording. */
  private record Key(Segment segment, long tokens, long targets, long sequences, long longest) {
    static Key of(Segment s, Run run) {
      return new Key(s, run.tokens(), s.countsTargets() ? run.targets() : 0, run.sequences(), run.longest());
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof Key k && k.segment == segment && k.tokens == tokens && k.targets == targets
          && k.sequences == sequences && k.longest == longest;
    }

    @Override
    public int hashCode() {
      return System.identityHashCode(segment) + Long.hashCode(((tokens * 31 + targets) * 31 + sequences) * 31 + longest);
    }
  }

  private final Recorder recorder;
  private final Map<Program, List<Segment>> segments = new IdentityHashMap<>();
  private final Map<Key, Integer> seen = new LinkedHashMap<>(16, 0.75f, true) {
    private static final long serialVersionUID = 1;

    @Override
    protected boolean removeEldestEntry(Map.Entry<Key, Integer> eldest) {
      return size() > SEEN;
    }
  };
  private final LinkedHashMap<Key, Recording> recordings = new LinkedHashMap<>(16, 0.75f, true);
  private long replays;

  Recordings(Recorder recorder) {
    this.recorder = recorder;
  }

  /** A program's segments; it must be complete. */
  List<Segment> segments(Program program) {
    return segments.computeIfAbsent(program, Segment::of);
  }

  void run(Segment segment, Run run, Runnable issue) {
    Key key = Key.of(segment, run);
    int times = seen.merge(key, 1, Integer::sum);
    Recording recording = recordings.get(key);
    if (recording == null) {
      if (times == 1 || !makeRoom(times)) {
        issue.run();
        return;
      }
      recording = recorder.record(issue);
      recordings.put(key, recording);
    }
    recording.replay();
    replays++;
  }

  private boolean makeRoom(int times) {
    if (recordings.size() < KEPT) {
      return true;
    }
    Key eldest = recordings.keySet().iterator().next();
    if (times <= seen.getOrDefault(eldest, 0)) {
      return false;
    }
    recordings.remove(eldest).close();
    return true;
  }

  long replays() {
    return replays;
  }

  @Override
  public void close() {
    recordings.values().forEach(Recording::close);
    recordings.clear();
    seen.clear();
    segments.clear();
  }
}
