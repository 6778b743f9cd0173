package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.device.Lanes.Lane;
import dev.oribi.device.Recorder;
import dev.oribi.kernel.DType;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** When a program is issued, recorded and replayed, with a recorder that writes down what it is asked. */
class RecordingsTest {
  private static final Buffer TARGETS = new Buffer("t", Lifetime.ACTIVATION, DType.F32, Rows.TARGETS, 8, 1);

  private final List<String> log = new ArrayList<>();
  private int made;

  private final Recorder recorder =
      work -> {
        log.add("record");
        work.run();
        int number = made++;
        return new Recorder.Recording() {
          @Override
          public void replay() {
            log.add("replay " + number);
          }

          @Override
          public void close() {
            log.add("close " + number);
          }
        };
      };

  /** Losses and what is gathered for them count targets; the others have no buffers at all. */
  private Op op(Kind kind) {
    List<Buffer> reads = kind == Kind.CROSS_ENTROPY || kind == Kind.GATHER ? List.of(TARGETS) : List.of();
    return new Op(kind, "x", reads, List.of(), 0, 0, r -> log.add(kind.label()));
  }

  private Program program(Kind... kinds) {
    Program p = new Program("p");
    for (Kind kind : kinds) {
      p.add(op(kind));
    }
    return p;
  }

  private static Run run(long tokens, long targets, long sequences, long longest) {
    return new Run(null, tokens, targets, sequences, longest, 0);
  }

  private List<String> take() {
    List<String> now = List.copyOf(log);
    log.clear();
    return now;
  }

  @Test
  void theFirstRunIsIssuedTheSecondRecordedTheRestReplayed() {
    Program p = program(Kind.ADD, Kind.FILL);
    try (Executor executor = new Executor(recorder, false)) {
      executor.run(p, run(8, 4, 2, 5));
      assertThat(take()).containsExactly("add", "fill");
      executor.run(p, run(8, 4, 2, 5));
      assertThat(take()).containsExactly("record", "add", "fill", "replay 0");
      executor.run(p, run(8, 4, 2, 5));
      assertThat(take()).containsExactly("replay 0");
      assertThat(executor.replays()).isEqualTo(2);
    }
    assertThat(take()).containsExactly("close 0");
  }

  @Test
  void everyNumberOfRowsHasItsOwnRecording() {
    Program p = program(Kind.ADD, Kind.GATHER);
    List<Run> runs = List.of(run(8, 4, 2, 5), run(7, 4, 2, 5), run(8, 3, 2, 5), run(8, 4, 1, 5), run(8, 4, 2, 6));
    try (Executor executor = new Executor(recorder, false)) {
      for (int round = 0; round < 3; round++) {
        for (Run r : runs) {
          executor.run(p, r);
        }
      }
      executor.run(program(Kind.ADD, Kind.GATHER), runs.get(0));
      assertThat(log.stream().filter("record"::equals)).hasSize(5);
      assertThat(log.subList(log.size() - 7, log.size()))
          .containsExactly("replay 0", "replay 1", "replay 2", "replay 3", "replay 4", "add", "gather");
    }
  }

  /** Labels differ in number from batch to batch: what counts them is issued, and the rest does not depend on them. */
  @Test
  void aLossIsIssuedBetweenTwoRecordings() {
    Program p = program(Kind.EMBEDDING, Kind.ADD, Kind.GATHER, Kind.CROSS_ENTROPY, Kind.FILL, Kind.GATHER, Kind.GLU, Kind.ADD);
    try (Executor executor = new Executor(recorder, false)) {
      executor.run(p, run(8, 4, 2, 5));
      executor.run(p, run(8, 3, 2, 5));
      take();
      executor.run(p, run(8, 5, 2, 5));
      assertThat(take()).containsExactly("replay 0", "gather", "cross_entropy", "fill", "gather", "replay 1");
      executor.run(p, run(7, 5, 2, 5));
      assertThat(take()).doesNotContain("record").contains("embedding", "glu");
    }
  }

  /** An op on a lane begins and is joined on the same side of a recording's border. */
  @Test
  void whatRunsBesideIsJoinedInItsOwnRecording() {
    Program p = program(Kind.EMBEDDING, Kind.ADD, Kind.MATMUL);
    Op out = op(Kind.OFFLOAD).on(Lane.OUT);
    Op in = op(Kind.FETCH).on(Lane.IN);
    List.of(out, op(Kind.GLU), out.join(), op(Kind.RMS_NORM), in, op(Kind.ROPE), op(Kind.CROSS_ENTROPY), op(Kind.ADD), in.join(),
        op(Kind.GLU), op(Kind.FILL)).forEach(p::add);
    assertThat(Segment.of(p).stream().map(s -> s.ops().stream().map(Op::kind).toList())).containsExactly(
        List.of(Kind.EMBEDDING, Kind.ADD, Kind.MATMUL, Kind.OFFLOAD, Kind.GLU, Kind.JOIN, Kind.RMS_NORM),
        List.of(Kind.FETCH, Kind.ROPE, Kind.CROSS_ENTROPY, Kind.ADD, Kind.JOIN), List.of(Kind.GLU, Kind.FILL));
  }

  /** The 33rd set of rows gets a place when it was seen more often than the least recently used of those that have one. */
  @Test
  void whatIsUsedMoreOftenTakesThePlaceOfTheLeastRecentlyUsed() {
    Program p = program(Kind.ADD, Kind.FILL);
    try (Executor executor = new Executor(recorder, false)) {
      for (int tokens = 0; tokens < 32; tokens++) {
        executor.run(p, run(tokens, 0, 0, 0));
        executor.run(p, run(tokens, 0, 0, 0));
        executor.run(p, run(0, 0, 0, 0));
      }
      take();
      executor.run(p, run(32, 0, 0, 0));
      executor.run(p, run(32, 0, 0, 0));
      assertThat(take()).as("no more often than the others").containsExactly("add", "fill", "add", "fill");
      executor.run(p, run(32, 0, 0, 0));
      assertThat(take()).containsExactly("close 1", "record", "add", "fill", "replay 32");
    }
    assertThat(take().stream().filter(s -> s.startsWith("close")).distinct()).hasSize(32);
  }

  @Test
  void dropoutAndListenersAndDebuggingAreIssued() {
    Run r = run(8, 4, 2, 5);
    try (Executor executor = new Executor(recorder, false)) {
      Program dropout = program(Kind.ADD, Kind.DROPOUT);
      Program plain = program(Kind.ADD, Kind.FILL);
      executor.listen(new Executor.Listener() {});
      for (int i = 0; i < 3; i++) {
        executor.run(dropout, r);
        executor.run(plain, r);
      }
      executor.listen(null);
      for (int i = 0; i < 3; i++) {
        executor.run(dropout, r);
      }
      assertThat(log).doesNotContain("record");
      assertThat(executor.replays()).isZero();
    }
  }

  @Test
  void anErrorWhileRecordingNamesItsOp() {
    Program p = program(Kind.ADD, Kind.FILL);
    boolean[] fail = new boolean[1];
    p.add(new Op(Kind.SUM, "loss", List.of(), List.of(), 0, 0, r -> {
      if (fail[0]) {
        throw new OribiException("no");
      }
    }));
    try (Executor executor = new Executor(recorder, false)) {
      executor.run(p, run(1, 1, 1, 1));
      fail[0] = true;
      assertThatThrownBy(() -> executor.run(p, run(1, 1, 1, 1))).isInstanceOf(OribiException.class).hasMessage("sum loss: no");
    }
  }
}
