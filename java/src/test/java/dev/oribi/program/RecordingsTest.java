package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.device.Recorder;
import dev.oribi.program.Op.Kind;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/** When a program is issued, recorded and replayed, with a recorder that writes down what it is asked. */
class RecordingsTest {
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

  private Op op(Kind kind) {
    return new Op(kind, "x", List.of(), List.of(), 0, 0, r -> log.add(kind.label()));
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
    Program p = program(Kind.ADD, Kind.FILL);
    List<Run> runs = List.of(run(8, 4, 2, 5), run(7, 4, 2, 5), run(8, 3, 2, 5), run(8, 4, 1, 5), run(8, 4, 2, 6));
    try (Executor executor = new Executor(recorder, false)) {
      for (int round = 0; round < 3; round++) {
        for (Run r : runs) {
          executor.run(p, r);
        }
      }
      executor.run(program(Kind.ADD, Kind.FILL), runs.get(0));
      assertThat(log.stream().filter("record"::equals)).hasSize(5);
      assertThat(log.subList(log.size() - 7, log.size()))
          .containsExactly("replay 0", "replay 1", "replay 2", "replay 3", "replay 4", "add", "fill");
    }
  }

  @Test
  void whatWasUsedLeastRecentlyIsClosed() {
    Program p = program(Kind.ADD, Kind.FILL);
    try (Executor executor = new Executor(recorder, false)) {
      for (int tokens = 0; tokens < 17; tokens++) {
        executor.run(p, run(tokens, 0, 0, 0));
        executor.run(p, run(tokens, 0, 0, 0));
        executor.run(p, run(0, 0, 0, 0));
      }
      assertThat(log.stream().filter(s -> s.startsWith("close"))).containsExactly("close 1");
    }
    assertThat(log.stream().filter(s -> s.startsWith("close")).distinct()).hasSize(17);
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
