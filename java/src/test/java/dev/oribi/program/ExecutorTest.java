package dev.oribi.program;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.device.Device;
import dev.oribi.device.Mem;
import dev.oribi.kernel.DType;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.config.QuantizationConfig;
import dev.oribi.program.Program.Span;
import dev.oribi.testing.GuardedDevice;
import dev.oribi.testing.ReferenceDecoder.Sequence;
import dev.oribi.testing.StepFixture;
import dev.oribi.testing.TinyModels;
import dev.oribi.train.TrainableTensor.Part;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/**
 * What ops do to the arena while they run: an op changes the buffers that it says it writes and nothing else, nothing around
 * the arena is touched, and what is dead may hold anything, such as NaN.
 */
class ExecutorTest {
  private static final long SEED = 9;

  private static final LoraConfig LORA =
      LoraConfig.of(3, 6, 0.2, LoraConfig.ALL_LINEAR, false, List.of("lm_head"), null);

  private static final LoraConfig FUSED = LoraConfig.of(8, 16, 0, LoraConfig.ALL_LINEAR, false, List.of(), null);

  /** One with rows of whole blocks (o_proj, down_proj), whose codes the fused kernel reads. */
  private static final ModelConfig WIDE = TinyModels.config(64, 128, 2, 2, 1, 32, 13, "silu", false);

  @AfterEach
  void clear() {
    System.clearProperty("oribi.lora");
  }

  private static List<Sequence> batch() {
    List<Sequence> all = new ArrayList<>(TinyModels.sequences(SEED, 13, 6, 1, 9));
    all.set(2, TinyModels.masked(all.get(2), 4));
    return all;
  }

  /** {@code inFourBits}: on weights in 4 bits, by the fused kernels. */
  private record Case(String name, Training training, StepFixture.Plan plan, boolean inFourBits) {
    Case(String name, Training training, StepFixture.Plan plan) {
      this(name, training, plan, false);
    }
  }

  private static Stream<Case> cases() {
    StepFixture.Plan small = StepFixture.Plan.DEFAULT.tokens(24).logitsBudget(4 * 13 * 4);
    return Stream.of(
        new Case("full", Training.FULL, small),
        new Case("adapter", Training.adapter(LORA), small),
        new Case("full, checkpointing", Training.FULL, small.checkpointing(true)),
        new Case("adapter, checkpointing", Training.adapter(LORA), small.checkpointing(true)),
        new Case("full, bfloat16", Training.FULL, small.type(DType.BF16)),
        new Case("adapter, bfloat16", Training.adapter(LORA), small.type(DType.BF16)),
        new Case("adapter by fused kernels on 4 bits", Training.adapter(FUSED), small.type(DType.BF16), true),
        new Case("the same, checkpointing", Training.adapter(FUSED), small.type(DType.BF16).checkpointing(true), true));
  }

  private static StepFixture fixture(Case c, GuardedDevice device) {
    System.setProperty("oribi.lora", c.inFourBits ? "fused" : "auto");
    return c.inFourBits
        ? new StepFixture(WIDE, c.training, QuantizationConfig.ON_LOAD, c.plan, SEED, device)
        : new StepFixture(TinyModels.tiny("silu", false), c.training, c.plan, SEED, device);
  }

  @TestFactory
  Stream<DynamicTest> opsChangeOnlyWhatTheyDeclare() {
    return cases().map(c -> DynamicTest.dynamicTest(c.name, () -> {
      GuardedDevice device = new GuardedDevice();
      try (StepFixture f = fixture(c, device)) {
        Watch watch = new Watch(device, f.step().plan().arena().all());
        f.step().executor().listen(watch);
        f.microStep(batch());
        f.step().evaluate(TinyModels.batch(batch()));
        f.step().update(1, 1e-3);
        f.step().clearGradients();
        assertThat(watch.ops).isEqualTo(f.step().plan().programs().stream().mapToInt(p -> p.ops().size()).sum());
        assertThat(device.intact()).as("the pages around the arena").isTrue();
      }
    }));
  }

  /** Compares the arena before and after each op. */
  private static final class Watch implements Executor.Listener {
    private final Device device;
    private final Mem arena;
    private final byte[] before;
    private final byte[] after;
    private int ops;

    Watch(Device device, Mem arena) {
      this.device = device;
      this.arena = arena;
      this.before = new byte[(int) arena.bytes()];
      this.after = new byte[before.length];
    }

    @Override
    public void before(Op op, Run run) {
      device.read(arena, ByteBuffer.wrap(before));
    }

    @Override
    public void after(Op op, Run run) {
      device.read(arena, ByteBuffer.wrap(after));
      BitSet allowed = new BitSet(before.length);
      for (Buffer b : op.writes()) {
        int begin = (int) (b.mem().address() - arena.address());
        allowed.set(begin, begin + (int) b.bytes());
      }
      for (int i = allowed.nextClearBit(0); i < before.length; ) {
        int set = allowed.nextSetBit(i);
        int end = set < 0 ? before.length : set;
        int changed = Arrays.mismatch(before, i, end, after, i, end);
        if (changed >= 0) {
          throw new AssertionError(
              op.kind().label() + " " + op.name() + " changed byte " + (i + changed) + ", which it does not declare");
        }
        i = allowed.nextClearBit(end);
      }
      ops++;
    }
  }

  @TestFactory
  Stream<DynamicTest> whatIsDeadMayHoldNaN() {
    return cases().map(c -> DynamicTest.dynamicTest(c.name, () -> {
      GuardedDevice device = new GuardedDevice();
      try (StepFixture clean = fixture(c, new GuardedDevice());
          StepFixture spoiled = fixture(c, device)) {
        Plan plan = spoiled.step().plan();
        Spoil spoil = new Spoil(device, plan.arena().all(), plan);
        spoiled.step().executor().listen(spoil);
        for (int i = 1; i <= 2; i++) {
          assertThat(spoiled.microStep(batch())).isEqualTo(clean.microStep(batch()));
          sameBits(spoiled.parts(Part.GRADIENT), clean.parts(Part.GRADIENT));
          assertThat(spoiled.step().update(i, 1e-3)).isEqualTo(clean.step().update(i, 1e-3)).isFinite();
          sameBits(spoiled.parts(Part.VALUE), clean.parts(Part.VALUE));
        }
        assertThat(spoil.bytes).as("bytes spoiled").isPositive();
      }
    }));
  }

  private static void sameBits(Map<String, float[]> actual, Map<String, float[]> expected) {
    assertThat(actual.keySet()).isEqualTo(expected.keySet());
    actual.forEach((name, values) -> assertThat(values).as(name).isEqualTo(expected.get(name)));
  }

  /** Before each op, fills with 0xFF (NaN in every float type) all that is not permanent and not read by this or a later op. */
  private static final class Spoil implements Executor.Listener {
    private final Device device;
    private final Mem step;
    private final Plan plan;
    private Program program;
    private int next;
    private long bytes;

    Spoil(Device device, Mem arena, Plan plan) {
      this.device = device;
      this.step = arena.slice(plan.bytes() - plan.stepBytes(), plan.stepBytes());
      this.plan = plan;
    }

    @Override
    public void before(Op op, Run run) {
      if (program == null || next == program.ops().size() || program.ops().get(next) != op) {
        program = plan.programs().stream().filter(p -> !p.ops().isEmpty() && p.ops().get(0) == op).findFirst().orElseThrow();
        next = 0;
      }
      BitSet alive = new BitSet((int) step.bytes());
      for (Map.Entry<Buffer, Span> e : program.spans().entrySet()) {
        boolean written = e.getValue().first() < next;
        if (written && e.getValue().last() >= next) {
          int begin = (int) plan.offset(program, e.getKey());
          alive.set(begin, begin + (int) e.getKey().bytes());
        }
      }
      for (int begin = alive.nextClearBit(0); begin < step.bytes(); ) {
        int set = alive.nextSetBit(begin);
        int end = set < 0 ? (int) step.bytes() : set;
        byte[] ones = new byte[end - begin];
        Arrays.fill(ones, (byte) 0xFF);
        device.write(step.slice(begin, ones.length), ByteBuffer.wrap(ones));
        bytes += ones.length;
        begin = alive.nextClearBit(end);
      }
      next++;
    }
  }

  @Test
  void thePeakIsKnownToTheByte() {
    try (StepFixture f = fixture(cases().findFirst().orElseThrow(), new GuardedDevice())) {
      Plan plan = f.step().plan();
      assertThat(plan.arena().bytes()).isEqualTo(plan.bytes()).isEqualTo(f.step().memoryBytes());
      String printed = new PlanReport(plan).memory();
      assertThat(printed.lines().filter(l -> l.startsWith("peak")).toList())
          .singleElement()
          .satisfies(l -> assertThat(l).contains(String.format(Locale.ROOT, " %,d ", plan.bytes())));
      long sum = 0;
      for (String line : printed.lines().skip(1).filter(l -> !l.startsWith("peak")).toList()) {
        String[] words = line.trim().split("\\s+");
        sum += Long.parseLong(words[words.length - 2].replace(",", ""));
      }
      assertThat(sum).as("the classes add up to the peak").isEqualTo(plan.bytes());
      long end = plan.arena().all().address() + plan.bytes();
      for (Program p : plan.programs()) {
        for (Buffer b : p.buffers()) {
          assertThat(b.mem().address()).isBetween(plan.arena().all().address(), end - b.bytes());
        }
      }
    }
  }

  /** On a GPU the op is known because the guarded machine waits after every op; on the CPU it always is. */
  @Test
  void anErrorNamesTheOpAtFault() {
    Sequence outside = new Sequence(new int[] {1, 13}, new int[] {1, 2});
    try (StepFixture f = fixture(cases().findFirst().orElseThrow(), new GuardedDevice())) {
      assertThatThrownBy(() -> f.microStep(List.of(outside)))
          .isInstanceOf(OribiException.class)
          .hasMessageStartingWith("embedding model.embed_tokens: ");
    }
    try (StepFixture f = new StepFixture(TinyModels.tiny("silu", false), Training.FULL, StepFixture.Plan.DEFAULT, SEED)) {
      assertThatThrownBy(() -> f.microStep(List.of(outside)))
          .isInstanceOf(OribiException.class)
          .hasMessageContaining("embedding");
      assertThat(f.microStep(batch())).as("of use after an error").isFinite();
    }
  }
}
