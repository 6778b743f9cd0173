package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.device.Lanes.Lane;
import dev.oribi.program.Op;
import dev.oribi.program.Op.Kind;
import dev.oribi.train.Calibration.Timed;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;

/** How the time of a program follows from timed ops: scaled by work, copies beside it, waiting where a copy is late. */
final class CalibrationTest {
  private static final double LINK = 50e9;
  private static final Offset<Double> EXACT = Offset.offset(1e-12);

  /** 1 ms, and 0.1 ms at 3 TB/s. */
  private static final Timed PRODUCT = new Timed(1e-3, 700_000_000_000L, 500_000_000L);

  private static final Timed NORM = new Timed(1e-4, 1_000_000L, 300_000_000L);

  private static Op product(int layer, long flops, long bytes) {
    return new Op(Kind.LORA_MATMUL, "model.layers." + layer + ".mlp.down_proj", List.of(), List.of(), bytes, flops, r -> {});
  }

  private static Op norm(long bytes) {
    return new Op(Kind.RMS_NORM, "model.layers.7.input_layernorm", List.of(), List.of(), bytes, 1, r -> {});
  }

  private static Op copy(long bytes) {
    return new Op(Kind.OFFLOAD, "x", List.of(), List.of(), bytes, 0, r -> {}).on(Lane.OUT);
  }

  private static Calibration calibration() {
    return new Calibration(
        Map.of(Calibration.key(product(0, 0, 0)), PRODUCT, Calibration.key(norm(0)), NORM), LINK);
  }

  @Test
  void anOpOfAnyLayerIsScaledByItsWork() {
    Calibration c = calibration();
    assertThat(c.of(product(31, 350_000_000_000L, 250_000_000L))).isCloseTo(0.5e-3, EXACT);
    assertThat(c.of(norm(600_000_000L))).isCloseTo(2e-4, EXACT);
    assertThat(c.of(new Op(Kind.ADD, "never timed", List.of(), List.of(), 1, 1, r -> {}))).isZero();
  }

  /** The same product in four pieces, each with the whole weight: 900 MB more at 3 TB/s. */
  @Test
  void whatIsReadMoreOftenCosts() {
    assertThat(calibration().of(product(0, 700_000_000_000L, 1_400_000_000L))).isCloseTo(1e-3 + 0.3e-3, EXACT);
  }

  @Test
  void aCopyBesideWorkCostsWhatIsLeftOfIt() {
    Calibration c = calibration();
    Op early = copy(40_000_000L); // 0.8 ms
    Op late = copy(100_000_000L); // 2 ms
    Op work = product(0, 700_000_000_000L, 500_000_000L);
    assertThat(c.of(List.of(early, work, early.join()))).isCloseTo(1e-3, EXACT);
    assertThat(c.of(List.of(late, work, late.join()))).isCloseTo(2e-3, EXACT);
    List<Op> both = new ArrayList<>(List.of(early, late, work, early.join(), late.join()));
    assertThat(c.of(both)).as("one after the other on the bus").isCloseTo(2.8e-3, EXACT);
  }
}
