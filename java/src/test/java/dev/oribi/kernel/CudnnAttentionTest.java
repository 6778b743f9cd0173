package dev.oribi.kernel;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.oribi.OribiException;
import dev.oribi.device.Recorder.Recording;
import dev.oribi.kernel.cudnn.CudnnLibrary;
import dev.oribi.testing.AttentionCard;
import dev.oribi.testing.AttentionCard.Case;
import dev.oribi.testing.AttentionCard.Result;
import dev.oribi.testing.TestMachine;
import java.util.Arrays;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** cuDNN's attention on a GPU, against the formulas in double and against Oribi's own kernels. */
class CudnnAttentionTest {
  private static final int[] MIXED = {130, 17, 257, 96};
  private static final int RUNS = 5;

  private static AttentionCard card;
  private static CudnnAttention cudnn;
  private static CudnnAttention deterministic;

  @BeforeAll
  static void open() {
    card = AttentionCard.open();
    if (card != null && CudnnLibrary.unusable() == null) {
      cudnn = new CudnnAttention(card.kernels(), false);
      deterministic = new CudnnAttention(card.kernels(), true);
    }
  }

  /** Before each test and not once for all, so that each is counted as skipped. */
  @BeforeEach
  void needsAGpuAndCudnn() {
    TestMachine.needsCuda();
    TestMachine.uses(card.machine());
    String unusable = CudnnLibrary.unusable();
    assumeTrue(unusable == null, unusable);
  }

  @AfterAll
  static void close() {
    if (cudnn != null) {
      cudnn.close();
      deterministic.close();
    }
    if (card != null) {
      card.close();
    }
  }

  static Stream<Case> cases() {
    Case plain = Case.of(DType.BF16, 8, 2, 64, MIXED);
    return Stream.of(
        plain,
        plain.type(DType.F16),
        plain.separate(),
        plain.window(100),
        plain.softcap(5),
        plain.window(64).softcap(10).type(DType.F16),
        Case.of(DType.BF16, 4, 4, 64, MIXED),
        Case.of(DType.F16, 8, 2, 128, MIXED),
        Case.of(DType.BF16, 8, 1, 128, 1, 113, 1, 300),
        // A batch that is rounded up may end with sequences of nothing.
        Case.of(DType.BF16, 8, 2, 128, 130, 0, 17, 257, 0, 0),
        Case.of(DType.BF16, 4, 2, 80, MIXED),
        Case.of(DType.BF16, 4, 2, 96, MIXED),
        Case.of(DType.BF16, 3, 3, 64, 13, 40),
        Case.of(DType.BF16, 4, 2, 112, MIXED),
        Case.of(DType.BF16, 4, 1, 160, MIXED),
        Case.of(DType.F16, 4, 2, 192, MIXED),
        Case.of(DType.BF16, 4, 2, 256, 113, 200),
        Case.of(DType.F16, 16, 8, 256, 150),
        // All of one length: the plan without offsets.
        Case.of(DType.BF16, 8, 2, 64, 256, 256),
        Case.of(DType.F16, 8, 2, 128, 128, 128, 128).window(100),
        Case.of(DType.BF16, 4, 4, 64, 384).softcap(5),
        Case.of(DType.BF16, 4, 2, 64, 128).separate());
  }

  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheFormulas(Case c) {
    card.run(cudnn, c).assertAsGoodAs(card.reference(c, false), card.reference(c, true), c);
  }

  /** The saved sums too: one's backward pass can follow the other's forward pass. */
  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheOwnKernels(Case c) {
    Result exact = card.reference(c, true);
    Result plain = card.reference(c, false);
    try (KernelAttention own = new KernelAttention(card.kernels())) {
      card.run(own, c).assertAsGoodAs(plain, exact, c);
      card.run(own, cudnn, c, 0).assertAsGoodAs(plain, exact, c);
      card.run(cudnn, own, c, 0).assertAsGoodAs(plain, exact, c);
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void theDeterministicGraphGivesTheSameBits(Case c) {
    Result exact = card.reference(c, true);
    Result plain = card.reference(c, false);
    Result first = card.run(deterministic, c);
    first.assertAsGoodAs(plain, exact, c);
    for (int i = 1; i < RUNS; i++) {
      assertThat(card.run(deterministic, c).bits()).as("run " + i).isEqualTo(first.bits());
    }
  }

  /** One plan, made for the largest batch, runs smaller ones of other lengths, one after another. */
  @Test
  void onePlanServesManyBatches() {
    int[][] batches = {{700, 300, 24}, {1024}, {1, 1, 1}, {129, 128, 127, 126, 125, 124}, {512, 512}, {1000}};
    try (CudnnAttention fresh = new CudnnAttention(card.kernels(), false)) {
      AttentionShape room = card.room(Case.of(DType.BF16, 8, 2, 64), 1024, 9, 1024);
      long forward = fresh.workspace(room, false);
      long backward = fresh.workspace(room, true);
      for (int[] lengths : batches) {
        Case c = Case.of(DType.BF16, 8, 2, 64, lengths);
        Result found = card.run(fresh, fresh, c, Math.max(forward, backward));
        found.assertAsGoodAs(card.reference(c, false), card.reference(c, true), c);
      }
    }
  }

  /** A recorded call is replayed with the sequences that are in the device's memory then. */
  @Test
  void aReplayReadsTheSequencesOfItsTime() {
    Case first = Case.of(DType.BF16, 8, 2, 64, 400, 300, 100);
    Case second = Case.of(DType.BF16, 8, 2, 64, 100, 411, 289);
    try (AttentionCard.Call call = card.new Call(cudnn, cudnn, first, 411, 0)) {
      call.run();
      Result direct = call.result();
      try (Recording recording = card.device().recorder().record(call::run)) {
        call.poison();
        recording.replay();
        Result replayed = call.result();
        assertThat(replayed.o()).isEqualTo(direct.o());
        replayed.assertAsGoodAs(card.reference(first, false), card.reference(first, true), first);
        call.sequences(second);
        recording.replay();
        call.result().assertAsGoodAs(card.reference(second, false), card.reference(second, true), second);
      }
    }
  }

  @Test
  void aWorkspaceThatIsTooSmallIsRefused() {
    Case c = Case.of(DType.BF16, 8, 2, 64, MIXED);
    assertThatThrownBy(() -> card.run(cudnn, cudnn, c, 1 << 16))
        .isInstanceOf(OribiException.class)
        .hasMessageContaining("planned for a smaller batch");
  }

  @Test
  void theChoiceIsTheUsers() {
    Case c = Case.of(DType.BF16, 8, 2, 64, MIXED);
    try (AttentionChoice choice = new AttentionChoice(card.kernels(), AttentionLibrary.AUTO, true)) {
      card.run(choice, c);
      assertThat(choice.describe()).as("deterministic").isEqualTo("own kernels");
      assertThat(choice.note()).as("what it costs").contains(card.kernels().architecture() == 90 ? "for --deterministic, which take" : "");
    }
    try (AttentionChoice choice = new AttentionChoice(card.kernels(), AttentionLibrary.ORIBI, false)) {
      card.run(choice, c);
      assertThat(choice.describe()).isEqualTo("own kernels");
    }
    try (AttentionChoice choice = new AttentionChoice(card.kernels(), AttentionLibrary.AUTO, false)) {
      card.run(choice, c);
      boolean measured = card.kernels().architecture() == 90;
      assertThat(choice.note()).isEmpty();
      assertThat(choice.describe()).startsWith(measured ? "cuDNN 9." : "own kernels");
    }
    try (AttentionChoice choice = new AttentionChoice(card.kernels(), AttentionLibrary.CUDNN, false)) {
      card.run(choice, c);
      assertThat(choice.describe()).startsWith("cuDNN 9.");
      AttentionShape odd = card.room(Case.of(DType.BF16, 2, 2, 36, 10));
      assertThatThrownBy(() -> choice.workspace(odd, true)).hasMessageContaining("multiples of 16 from 64 to 256, not 36");
    }
  }

  /** Forward cuDNN, and backward the own kernels for short sequences: to the bit what the two give in turn. */
  @Test
  void eachPassIsByTheFasterOne() {
    Case c = Case.of(DType.BF16, 8, 2, 128, MIXED);
    try (AttentionChoice choice = new AttentionChoice(card.kernels(), AttentionLibrary.AUTO, false);
        KernelAttention own = new KernelAttention(card.kernels())) {
      assumeTrue(card.kernels().architecture() == 90, "where both were measured");
      Result found = card.run(choice, c);
      found.assertAsGoodAs(card.reference(c, false), card.reference(c, true), c);
      assertThat(found.bits()).isEqualTo(card.run(cudnn, own, c, 0).bits());
      AttentionShape room = card.room(Case.of(DType.BF16, 8, 2, 128), 8192, 4, 8192);
      assertThat(choice.workspace(room, true)).as("for either, since short ones may come")
          .isGreaterThanOrEqualTo(Math.max(own.workspace(room, true), cudnn.workspace(room, true)));
    }
  }

  /** The same numbers for any rows before and after: what a pack holds beside a sequence does not reach it. */
  @Test
  void sequencesDoNotSeeEachOther() {
    Case together = Case.of(DType.BF16, 8, 2, 64, MIXED);
    Result all = card.run(cudnn, together);
    int begin = 0;
    for (int i = 0; i < MIXED.length; i++) {
      int end = begin + MIXED[i];
      Result changed = card.run(cudnn, together.disturbed(begin, end));
      int row = together.heads() * together.headDim();
      assertThat(Arrays.copyOfRange(changed.o(), begin * row, end * row))
          .as("sequence " + i)
          .isEqualTo(Arrays.copyOfRange(all.o(), begin * row, end * row));
      begin = end;
    }
  }
}
