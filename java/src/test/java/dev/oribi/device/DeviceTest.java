package dev.oribi.device;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.oribi.OribiException;
import dev.oribi.model.Machine;
import dev.oribi.testing.TestMachine;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.DoubleSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Memory and copies of the device under test. The sizes lie around those of a GPU's pinned slots, 4 MiB. */
class DeviceTest {
  private static final int SLOT = 4 << 20;

  private Machine machine;
  private Device device;

  @BeforeEach
  void open() {
    machine = TestMachine.open();
    device = machine.device();
  }

  @AfterEach
  void close() {
    machine.close();
  }

  @Test
  void memoryIsZeroedAndAligned() {
    for (long bytes : new long[] {0, 1, 4095, 4096, SLOT + 13}) {
      try (Arena arena = device.allocate("a test", bytes)) {
        assertThat(arena.all().address() % 4096).isZero();
        assertThat(arena.bytes()).isEqualTo(bytes).isEqualTo(arena.all().bytes());
        byte[] content = new byte[(int) bytes];
        Arrays.fill(content, (byte) 7);
        device.read(arena.all(), ByteBuffer.wrap(content));
        assertThat(Arrays.equals(content, new byte[(int) bytes])).as("%d zeros", bytes).isTrue();
      }
    }
  }

  @Test
  void whatIsWrittenIsRead() {
    Random random = new Random(1);
    for (int bytes : new int[] {1, 3, 64, SLOT - 1, SLOT, SLOT + 1, 3 * SLOT + 5, 40 * SLOT}) {
      byte[] sent = new byte[bytes];
      random.nextBytes(sent);
      try (Arena arena = device.allocate("a test", bytes + 32L)) {
        Mem middle = arena.all().slice(16, bytes);
        device.write(middle, ByteBuffer.wrap(sent));
        byte[] around = new byte[bytes + 32];
        device.read(arena.all(), ByteBuffer.wrap(around));
        assertThat(Arrays.equals(sent, 0, bytes, around, 16, 16 + bytes)).as("%d bytes", bytes).isTrue();
        assertThat(Arrays.copyOf(around, 16)).containsOnly(0);
        assertThat(Arrays.copyOfRange(around, 16 + bytes, 32 + bytes)).containsOnly(0);
        ByteBuffer direct = ByteBuffer.allocateDirect(bytes);
        device.read(middle, direct);
        assertThat(direct.flip()).isEqualTo(ByteBuffer.wrap(sent));
      }
    }
  }

  /** More than there are places for, read in another order; each is what was there when it was asked for. */
  @Test
  void aNumberReadLaterIsThatOfItsTime() {
    try (Arena arena = device.allocate("a test", 16)) {
      Mem place = arena.all().slice(8, 8);
      List<DoubleSupplier> later = new ArrayList<>();
      for (int i = 0; i < 20; i++) {
        device.write(place, ByteBuffer.allocate(8).order(ByteOrder.nativeOrder()).putDouble(0, i + 0.25));
        later.add(device.readDoubleLater(place));
      }
      device.write(place, ByteBuffer.allocate(8));
      for (int i : new int[] {19, 3, 12, 18, 0, 11, 7, 19, 3}) {
        assertThat(later.get(i).getAsDouble()).isEqualTo(i + 0.25);
      }
      assertThat(device.readDoubleLater(place).getAsDouble()).isZero();
    }
  }

  @Test
  void numbersKeepTheirPlaces() {
    int n = SLOT / 4 + 3;
    float[] floats = new float[n + 2];
    int[] ints = new int[n];
    for (int i = 0; i < n; i++) {
      floats[i + 1] = i + 0.5f;
      ints[i] = i ^ 0x5555;
    }
    try (Arena arena = device.allocate("a test", 8L * n)) {
      Mem f = arena.all().slice(0, 4L * n);
      Mem k = arena.all().slice(4L * n, 4L * n);
      device.write(f, floats, 1, n);
      device.write(k, ints, n);
      float[] back = new float[n + 2];
      device.read(f, back, 1, n);
      assertThat(back).isEqualTo(floats);
      assertThat(device.readInt(k.slice(4L * (n - 1), 4))).isEqualTo(ints[n - 1]);
      device.write(f, ByteBuffer.allocate(8).order(java.nio.ByteOrder.nativeOrder()).putDouble(0, Math.PI));
      assertThat(device.readDouble(f)).isEqualTo(Math.PI);
    }
  }

  /** A small array is overwritten at once by its owner: what was written is what it held at the call. */
  @Test
  void aWriteTakesWhatTheArrayHoldsNow() {
    int[] one = new int[1];
    int writes = 1000;
    try (Arena arena = device.allocate("a test", 4L * writes)) {
      for (int i = 0; i < writes; i++) {
        one[0] = i;
        device.write(arena.all().slice(4L * i, 4), one, 1);
      }
      for (int i = 0; i < writes; i += 37) {
        assertThat(device.readInt(arena.all().slice(4L * i, 4))).isEqualTo(i);
      }
    }
  }

  /** On the CPU pages are taken when they are touched, and other programs change it all the time; on a GPU a little. */
  @Test
  void freeMemoryFallsAndComesBack() {
    long before = device.freeBytes();
    assertThat(before).isPositive();
    if (machine.isCuda()) {
      long much = before / 2;
      try (Arena arena = device.allocate("a test", much)) {
        assertThat(before - device.freeBytes()).isBetween(much / 2, 2 * much);
        assertThatThrownBy(() -> device.allocate("training", before)).hasMessageStartingWith("training needs ");
      }
      assertThat(before - device.freeBytes()).isLessThan(much / 2);
    }
  }

  @Test
  void tooMuchIsRefusedInOneLine() {
    assertThatThrownBy(() -> device.allocate("training", 1L << 50))
        .isInstanceOf(OribiException.class)
        .hasMessageStartingWith("training needs 1048576.00 GiB of memory and ")
        .hasMessageContaining(" GiB are free")
        .hasMessageContaining("lower --per-device-train-batch-size")
        .satisfies(e -> assertThat(e.getMessage().lines()).hasSize(1));
  }

  @Test
  void theClockSeesTheWorkBetweenTwoMarks() {
    int bytes = 16 * SLOT;
    try (Arena arena = device.allocate("a test", bytes);
        Clock clock = device.clock()) {
      ByteBuffer source = ByteBuffer.allocateDirect(bytes);
      for (int round = 0; round < 2; round++) {
        int begin = clock.mark();
        device.write(arena.all(), source);
        int middle = clock.mark();
        int end = clock.mark();
        assertThat(clock.nanos(begin, middle)).isGreaterThan(clock.nanos(middle, end)).isLessThan(10_000_000_000L);
        clock.reset();
        assertThat(clock.mark()).isZero();
        clock.reset();
      }
    }
  }
}
