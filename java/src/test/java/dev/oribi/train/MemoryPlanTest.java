package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.layer.Saving;
import dev.oribi.layer.Saving.How;
import dev.oribi.layer.Saving.Tensor;
import dev.oribi.train.MemoryPlan.Choice;
import dev.oribi.train.MemoryPlan.Estimate;
import dev.oribi.train.MemoryPlan.Options;
import dev.oribi.train.MemoryPlan.Point;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** The order of the planner's moves and where it stops, on a made-up model whose bytes and seconds can be added up by hand. */
final class MemoryPlanTest {
  private static final int LAYERS = 10;
  private static final long HOST = 1L << 40;

  /** Without norms of heads and outputs. */
  private static final Set<Tensor> TENSORS = EnumSet.complementOf(EnumSet.of(Tensor.QK, Tensor.Y, Tensor.D));

  /** Megabytes of a tensor of a layer, as of an 8B model: gu is the largest. */
  private static long size(Tensor t) {
    return (switch (t) {
      case GU -> 448;
      case F -> 224;
      case QKV -> 96;
      default -> 64;
    }) << 20;
  }

  /** Milliseconds that making a tensor again takes. */
  private static double again(Tensor t) {
    return switch (t) {
      case GU -> 2.4;
      case QKV -> 0.55;
      case R1 -> 0.37;
      case O -> 0.33;
      case F -> 0.08;
      default -> 0.045;
    };
  }

  private static final class ByHand implements Estimate {
    private final double link;
    private final double copyMs;

    ByHand(double link) {
      this(link, 0.5);
    }

    /** {@code copyMs}: what a layer's second copy saves; 0.5 ms in 16 bits, 3.1 in FP8. */
    ByHand(double link, double copyMs) {
      this.link = link;
      this.copyMs = copyMs;
    }

    @Override
    public void calibrate() {}

    @Override
    public Point of(Choice c) {
      long bytes = (6L << 30) + c.copies() * (416L << 20) - (c.embeddingOnHost() ? 1L << 30 : 0) + c.logitsBudget();
      long host = c.embeddingOnHost() ? 1L << 30 : 0;
      double ms = LAYERS * 14.0 - c.copies() * copyMs + (c.embeddingOnHost() ? 1.3 : 0);
      for (Tensor t : TENSORS) { // what comes back from the host is there twice
        bytes += c.savings().stream().anyMatch(s -> s.of(t) == How.OFFLOAD) ? size(t) : 0;
      }
      for (Saving s : c.savings()) {
        for (Tensor t : TENSORS) {
          switch (s.of(t)) {
            case KEEP -> bytes += size(t);
            case OFFLOAD -> host += size(t);
            case REBUILD -> ms += again(t);
          }
        }
        bytes -= s.tileRows() > 0 ? (1L << 30) / s.tileRows() : 0;
      }
      return new Point(c, bytes, host, ms / 1e3, LAYERS * 4.7e-3);
    }

    @Override
    public long bytes(Tensor t) {
      return size(t);
    }

    @Override
    public double link() {
      return link;
    }
  }

  private static MemoryPlan plan(double link, boolean device, long host) {
    return new MemoryPlan(new Options(LAYERS, 8192, device, device, device, device, 256L << 20, host), new ByHand(link));
  }

  @Test
  void whatFitsIsKept() {
    Point p = plan(50e9, true, HOST).fit(80L << 30);
    assertThat(p.choice().savings()).allMatch(s -> s.equals(Saving.KEEP));
    assertThat(p.choice().copies()).isEqualTo(LAYERS);
  }

  /** --memory holds with --gradient-checkpointing too. */
  @Test
  void checkpointingAloneIsNotEnoughForALittleMemory() {
    MemoryPlan plan = plan(50e9, true, HOST);
    long bytes = new ByHand(50e9).of(plan.checkpointed()).bytes();
    assertThat(plan.fitCheckpointed(bytes).choice()).isEqualTo(plan.checkpointed());
    assertThat(plan.fitCheckpointed(bytes - 1).bytes()).isLessThan(bytes);
    assertThatThrownBy(() -> plan.fitCheckpointed(1 << 30)).isInstanceOf(OribiException.class).hasMessageContaining("smallest step");
  }

  @Test
  void theCheapestGoesFirst() {
    MemoryPlan plan = plan(50e9, true, HOST);
    long all = new ByHand(50e9).of(plan.everything()).bytes();
    Point p = plan.fit(all - size(Tensor.F));
    assertThat(p.choice().savings().get(0).of(Tensor.F)).isEqualTo(How.REBUILD);
    assertThat(p.choice().savings().subList(1, LAYERS)).allMatch(s -> s.equals(Saving.KEEP));
    assertThat(p.choice().describe(LAYERS)).isEqualTo("f rebuilt in 1 of 10 layers, weights in 16 bits too");
  }

  /**
   * gu costs 2.4 ms for 448 MiB, a copy in 16 bits 0.5 for 416, one in FP8 3.1. Of 5,120 MiB, f, x1 and x2 give 3,520; the rest are
   * four copies, or o of every layer and gu of three.
   */
  @Test
  void whatCopiesSaveDecidesWhenTheyGo() {
    Options options = new Options(LAYERS, 8192, true, true, true, true, 256L << 20, 0);
    for (double copyMs : new double[] {0.5, 3.1}) {
      MemoryPlan plan = new MemoryPlan(options, new ByHand(50e9, copyMs));
      long all = new ByHand(50e9).of(plan.everything()).bytes();
      Choice c = plan.fit(all - (5L << 30)).choice();
      assertThat(c.savings().stream().filter(s -> s.of(Tensor.GU) == How.REBUILD)).hasSize(copyMs < 1 ? 0 : 3);
      assertThat(c.savings().stream().filter(s -> s.of(Tensor.O) == How.REBUILD)).hasSize(copyMs < 1 ? 0 : LAYERS);
      assertThat(c.copies()).isEqualTo(copyMs < 1 ? LAYERS - 4 : LAYERS);
    }
  }

  /** The forward pass of a layer takes 4.7 ms here: 90 % of that at 50 GB/s is 202 MiB, three tensors of 64 and a bit of a fourth. */
  @Test
  void theBusCarriesWhatItCan() {
    Choice c = plan(50e9, true, HOST).fit(new ByHand(1).of(plan(50e9, true, HOST).checkpointed()).bytes() + (1L << 30)).choice();
    assertThat(c.savings().get(0).of(Tensor.O)).isEqualTo(How.OFFLOAD);
    assertThat(c.savings().get(0).of(Tensor.R0)).isEqualTo(How.OFFLOAD);
    assertThat(c.savings().get(0).of(Tensor.R1)).isEqualTo(How.OFFLOAD);
    assertThat(c.savings().stream().filter(s -> s.of(Tensor.QKV) == How.OFFLOAD)).hasSizeBetween(1, 4);
    assertThat(c.savings().get(0).of(Tensor.GU)).isEqualTo(How.REBUILD);
    assertThat(c.savings().get(LAYERS - 1).of(Tensor.O)).isNotEqualTo(How.OFFLOAD);
  }

  @Test
  void aSlowBusOrAFullHostIsNotUsed() {
    for (MemoryPlan plan : List.of(plan(1e9, true, HOST), plan(50e9, true, 0), plan(50e9, false, HOST))) {
      long least = new ByHand(1).of(plan.checkpointed()).bytes();
      Choice c = plan.fit(least + (2L << 30)).choice();
      assertThat(c.savings()).noneMatch(s -> s.how().containsValue(How.OFFLOAD));
    }
  }

  @Test
  void everyPointOfTheCurveIsSmallerAndTheFirstIsTheFastest() {
    List<Point> curve = plan(50e9, true, HOST).curve(12);
    for (int i = 1; i < curve.size(); i++) {
      assertThat(curve.get(i).bytes()).isLessThan(curve.get(i - 1).bytes());
    }
    assertThat(curve).allMatch(p -> p.seconds() >= curve.get(0).seconds());
  }

  @Test
  void aBudgetIsKeptAndNothingIsWasted() {
    MemoryPlan plan = plan(50e9, true, HOST);
    List<Point> curve = plan.curve(40);
    for (Point want : curve) {
      Point found = plan.fit(want.bytes());
      assertThat(found.bytes()).isLessThanOrEqualTo(want.bytes());
      assertThat(found.seconds()).isLessThanOrEqualTo(want.seconds() + 1e-12);
    }
  }

  /** Where heads and outputs have norms, what these read is planned like the rest: at last nothing stays but the layers' inputs. */
  @Test
  void tensorsOfMoreNormsAreGivenUpToo() {
    ByHand estimate = new ByHand(50e9);
    Options all = new Options(LAYERS, 8192, true, true, true, true, 256L << 20, HOST, EnumSet.allOf(Tensor.class));
    MemoryPlan plan = new MemoryPlan(all, estimate);
    List<Point> curve = plan.curve(60);
    Choice least = curve.get(curve.size() - 1).choice();
    for (Tensor t : Tensor.values()) {
      assertThat(least.savings()).as(t.name()).noneMatch(s -> s.of(t) == How.KEEP && t != Tensor.R0);
    }
    Choice first = curve.stream().map(Point::choice).filter(c -> c.savings().get(0).of(Tensor.QK) == How.REBUILD).findFirst().orElseThrow();
    assertThat(first.savings().get(0).of(Tensor.Y)).as("cheap ones go before y").isEqualTo(How.KEEP);
    Choice without = plan(50e9, true, HOST).curve(60).get(0).choice();
    assertThat(without.savings().get(0).of(Tensor.D)).isEqualTo(How.KEEP);
  }

  @Test
  void tooLittleIsSaidWithTheLeast() {
    assertThatThrownBy(() -> plan(50e9, true, HOST).fit(1L << 30))
        .isInstanceOf(OribiException.class)
        .hasMessageContaining("the smallest step of this model with 8192 tokens takes")
        .hasMessageContaining("--memory");
  }
}
