package dev.oribi.testing;

import dev.oribi.testing.TestMachine.Where;
import java.util.EnumMap;
import java.util.Map;
import java.util.Set;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.TestPlan;

/** Prints at the end of the tests how many ran on which device: a GPU test never passes unseen by being skipped. */
public final class DeviceCount implements TestExecutionListener {
  private final Map<Where, Integer> ran = new EnumMap<>(Where.class);
  private int none;
  private int skipped;

  @Override
  public void executionStarted(TestIdentifier test) {
    if (test.isTest()) {
      TestMachine.takeUsed();
    }
  }

  @Override
  public void executionSkipped(TestIdentifier test, String reason) {
    skipped++;
  }

  @Override
  public void executionFinished(TestIdentifier test, TestExecutionResult result) {
    if (!test.isTest()) {
      return;
    }
    Set<Where> used = TestMachine.takeUsed();
    if (result.getStatus() == TestExecutionResult.Status.ABORTED) {
      skipped++;
    } else if (used.isEmpty()) {
      none++;
    } else {
      used.forEach(w -> ran.merge(w, 1, Integer::sum));
    }
  }

  @Override
  public void testPlanExecutionFinished(TestPlan plan) {
    String card = TestMachine.card();
    System.out.printf(
        "Device under test: %s. Tests that used the CPU: %d, a GPU: %d%s, no device: %d, skipped: %d%n", TestMachine.name(),
        ran.getOrDefault(Where.CPU, 0), ran.getOrDefault(Where.GPU, 0), card == null ? "" : " (" + card + ")", none, skipped);
    Goldens.print();
  }
}
