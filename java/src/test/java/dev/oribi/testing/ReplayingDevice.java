package dev.oribi.testing;

import dev.oribi.device.Device;
import dev.oribi.device.Recorder;

/**
 * Another device with a recorder that records nothing: a replay issues the work as it was given when it was recorded. So what
 * is decided about recordings can be tested where there is no GPU, and what a recording would have frozen is frozen.
 */
public final class ReplayingDevice extends ForwardingDevice {
  private final Device inner;

  public ReplayingDevice(Device inner) {
    this.inner = inner;
  }

  @Override
  Device inner() {
    return inner;
  }

  @Override
  public Recorder recorder() {
    return work -> new Recorder.Recording() {
      @Override
      public void replay() {
        work.run();
      }

      @Override
      public void close() {}
    };
  }
}
