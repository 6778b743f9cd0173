package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.device.Lanes.Lane;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Op.Kind;
import dev.oribi.program.Program.Span;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.TinyModels;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import net.jqwik.api.Arbitraries;
import net.jqwik.api.Arbitrary;
import net.jqwik.api.Combinators;
import net.jqwik.api.Example;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.Provide;

/** Placement of random programs and of the real step; and that {@link Verify} sees what is wrong with a program. */
class PlaceTest {
  private static final int OPS = 12;

  /** A buffer that is written at {@code first} and read up to {@code last}. */
  private record Life(int first, int last, int bytes) {}

  @Provide
  Arbitrary<List<Life>> lives() {
    Arbitrary<Integer> op = Arbitraries.integers().between(0, OPS - 1);
    Arbitrary<Integer> bytes = Arbitraries.integers().between(0, 5000);
    return Combinators.combine(op, op, bytes).as((a, b, n) -> new Life(Math.min(a, b), Math.max(a, b), n)).list().ofMaxSize(40);
  }

  private static Program program(List<Life> lives) {
    List<List<Buffer>> reads = new ArrayList<>();
    List<List<Buffer>> writes = new ArrayList<>();
    for (int i = 0; i < OPS; i++) {
      reads.add(new ArrayList<>());
      writes.add(new ArrayList<>());
    }
    for (Life life : lives) {
      Buffer b = buffer("b" + writes.get(life.first).size(), Lifetime.ACTIVATION, life.bytes);
      writes.get(life.first).add(b);
      if (life.last > life.first) {
        reads.get(life.last).add(b);
      }
    }
    Program program = new Program("random");
    for (int i = 0; i < OPS; i++) {
      program.add(op("op" + i, reads.get(i), writes.get(i)));
    }
    return program;
  }

  private static Buffer buffer(String name, Lifetime lifetime, long bytes) {
    return new Buffer(name, lifetime, DType.U8, Rows.FIXED, 1, bytes);
  }

  private static Op op(String name, List<Buffer> reads, List<Buffer> writes) {
    return new Op(Kind.ADD, name, reads, writes, 0, 0, run -> {});
  }

  @Property
  void noTwoLiveBuffersOverlap(@ForAll("lives") List<Life> lives) {
    Program program = program(lives);
    Place.Placement placement = Place.of(program);
    Map<Buffer, Span> spans = program.spans();
    assertThat(placement.offsets().keySet()).containsExactlyInAnyOrderElementsOf(spans.keySet());
    List<Buffer> all = new ArrayList<>(spans.keySet());
    for (int i = 0; i < all.size(); i++) {
      Buffer a = all.get(i);
      long beginA = placement.offsets().get(a);
      assertThat(beginA % 256).isZero();
      assertThat(beginA + a.bytes()).isLessThanOrEqualTo(placement.bytes());
      for (Buffer b : all.subList(i + 1, all.size())) {
        long beginB = placement.offsets().get(b);
        boolean overlap = beginA < beginB + b.bytes() && beginB < beginA + a.bytes();
        boolean together = spans.get(a).first() <= spans.get(b).last() && spans.get(b).first() <= spans.get(a).last();
        assertThat(overlap && together).as("%s at %d and %s at %d", a, beginA, b, beginB).isFalse();
      }
    }
    assertThat(placement.bytes()).isGreaterThanOrEqualTo(mostAlive(program));
    Verify.check(program, placement);
  }

  /** The most bytes that are alive during one op, each buffer rounded up as it is placed. */
  private static long mostAlive(Program program) {
    long[] alive = new long[program.ops().size()];
    program.spans().forEach((b, span) -> {
      for (int i = span.first(); i <= span.last(); i++) {
        alive[i] += Place.align(b.bytes());
      }
    });
    long most = 0;
    for (long bytes : alive) {
      most = Math.max(most, bytes);
    }
    return most;
  }

  @Example
  void theRealStepTakesLittleMoreThanWhatIsAlive() {
    LoraConfig lora = LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);
    for (Training training : List.of(Training.FULL, Training.adapter(lora))) {
      for (boolean checkpointing : new boolean[] {false, true}) {
        StepFixture.Plan plan = StepFixture.Plan.DEFAULT.checkpointing(checkpointing).logitsBudget(1 << 16);
        try (StepFixture f = new StepFixture(TinyModels.small(true), training, plan, 1)) {
          Program step = f.step().plan().programs().get(0);
          double ratio = Place.of(step).bytes() / (double) mostAlive(step);
          System.out.printf("placement of %d ops takes %.3f of the bound%n", step.ops().size(), ratio);
          assertThat(ratio).isBetween(1.0, 1.1);
        }
      }
    }
  }

  // ---------------------------------------------------------------------------------------------------------- verify

  private final Buffer a = buffer("a", Lifetime.ACTIVATION, 100);
  private final Buffer b = buffer("b", Lifetime.ACTIVATION, 100);
  private final Buffer weight = buffer("w", Lifetime.WEIGHT, 100);

  private static Program of(Op... ops) {
    Program program = new Program("test");
    List.of(ops).forEach(program::add);
    return program;
  }

  private static Place.Placement placement(long bytes, Object... bufferAndOffset) {
    Map<Buffer, Long> offsets = new IdentityHashMap<>();
    for (int i = 0; i < bufferAndOffset.length; i += 2) {
      offsets.put((Buffer) bufferAndOffset[i], ((Integer) bufferAndOffset[i + 1]).longValue());
    }
    return new Place.Placement(offsets, bytes);
  }

  private void refuses(Program program, Place.Placement placement, String message) {
    assertThatThrownBy(() -> Verify.check(program, placement)).isInstanceOf(IllegalStateException.class).hasMessageContaining(message);
  }

  @Example
  void aReadThatNothingWroteIsRefused() {
    Program program = of(op("reads", List.of(a), List.of()), op("writes", List.of(), List.of(a)));
    refuses(program, placement(128, a, 0), "reads a[1,100] uint8, which nothing wrote");
  }

  @Example
  void anOpMayNotReadWhatOnlyItselfWrites() {
    refuses(of(op("adds", List.of(a), List.of(a))), placement(128, a, 0), "nothing wrote");
  }

  @Example
  void aWriteToAFrozenWeightIsRefused() {
    refuses(of(op("steps", List.of(), List.of(weight))), placement(0), "steps writes the frozen weight w");
  }

  @Example
  void whatAnOpOnALaneHoldsIsLeftAloneUntilItIsJoined() {
    Op make = op("makes", List.of(), List.of(a));
    Op out = op("leaves", List.of(a), List.of(b)).on(Lane.OUT);
    Op change = op("changes", List.of(a), List.of(a));
    Op back = op("returns", List.of(b), List.of(a)).on(Lane.IN);
    Place.Placement apart = placement(512, a, 0, b, 256);
    Verify.check(of(make, out, out.join(), change, back, back.join()), apart);
    refuses(of(make, out, change, out.join()), apart, "changes races with");
    refuses(of(make, out, back, out.join(), back.join()), apart, "returns races with");
    refuses(of(make, out, out.join(), back, op("reads", List.of(a), List.of()), back.join()), apart, "reads races with");
  }

  @Example
  void anOverlapOfLiveBuffersIsRefused() {
    Buffer large = buffer("large", Lifetime.ACTIVATION, 300);
    Program together = of(op("one", List.of(), List.of(large, b)));
    refuses(together, placement(512, large, 0, b, 256), "overlaps");
    Verify.check(together, placement(1024, large, 0, b, 512));
    Program apart = of(op("one", List.of(), List.of(large)), op("two", List.of(), List.of(b)));
    Verify.check(apart, placement(512, large, 0, b, 0));
  }

  @Example
  void aLongBufferThatCoversAShortOneIsRefused() {
    Buffer large = buffer("large", Lifetime.ACTIVATION, 1000);
    Program together = of(op("one", List.of(), List.of(large, a, b)));
    refuses(together, placement(1024, large, 0, a, 256, b, 1024 - 256), "overlaps");
  }

  @Example
  void aPlaceOutsideTheRegionIsRefused() {
    Program program = of(op("one", List.of(), List.of(a)));
    refuses(program, placement(99, a, 0), "outside");
    refuses(program, placement(256, a, 32), "outside");
    refuses(program, placement(256, a, -256), "outside");
  }
}
