package dev.oribi.testing;

import dev.oribi.kernel.AttentionLibrary;
import dev.oribi.model.Machine;
import java.util.EnumSet;
import java.util.Set;
import org.junit.jupiter.api.Assumptions;

/**
 * The device under test: the CPU, or with {@code -Doribi.device=cuda} a GPU, there with the library of attention that
 * {@code -Doribi.attention} names. Every test of kernels, layers and models opens
 * it here, so that the same test runs on both; {@link DeviceCount} tells how many ran where.
 */
public final class TestMachine {
  /** Where a test ran. */
  public enum Where {
    CPU,
    GPU
  }

  private static final Set<Where> USED = EnumSet.noneOf(Where.class);
  private static String card;

  private TestMachine() {}

  /** For {@code --device}. */
  public static String name() {
    return System.getProperty("oribi.device", "cpu");
  }

  public static boolean isCuda() {
    return name().startsWith("cuda");
  }

  /** Ends a test that is about a GPU where the tests do not run on one; it is counted as skipped. */
  public static void needsCuda() {
    Assumptions.assumeTrue(isCuda(), "for a GPU: -Doribi.device=cuda");
  }

  public static Machine open() {
    return open(0);
  }

  public static Machine open(int threads) {
    String attention = System.getProperty("oribi.attention", "auto");
    return open(threads, Machine.Options.DEFAULT.withAttention(AttentionLibrary.of(attention)));
  }

  public static Machine open(int threads, Machine.Options options) {
    return uses(Machine.open(name(), threads, options));
  }

  /** The CPU whatever the device under test is, for what is compared with it. */
  public static Machine cpu() {
    return uses(Machine.cpu(0));
  }

  /** Counts the running test for a machine that it shares with others. */
  public static synchronized Machine uses(Machine machine) {
    used(machine.isCuda() ? Where.GPU : Where.CPU);
    card = machine.isCuda() ? machine.describe() : card;
    return machine;
  }

  /** Counts the running test for the device under test; for tests that run whole commands. */
  public static synchronized void commandRuns() {
    used(isCuda() ? Where.GPU : Where.CPU);
  }

  private static void used(Where where) {
    USED.add(where);
  }

  /** The card that was opened, or null. */
  static synchronized String card() {
    return card;
  }

  /** Devices opened since the last call. */
  static synchronized Set<Where> takeUsed() {
    Set<Where> all = EnumSet.noneOf(Where.class);
    all.addAll(USED);
    USED.clear();
    return all;
  }
}
