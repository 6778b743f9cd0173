package dev.oribi.device;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Says in one line why CUDA does not work on a machine, and what to install. Reads files only; no library is touched. */
public final class CudaSetup {
  /** The first driver that runs CUDA 13. */
  static final int FIRST_DRIVER = 580;

  /** Where NVIDIA's kernel module tells its version. */
  static final Path DRIVER_FILE = Path.of("/proc/driver/nvidia/version");

  private static final Pattern VERSION = Pattern.compile("\\s(\\d{3,})\\.\\d+");

  private CudaSetup() {}

  /**
   * Why there is no device.
   *
   * @param found what CUDA itself says
   */
  public static String noDevice(String found) {
    return noDevice(DRIVER_FILE, found);
  }

  static String noDevice(Path driverFile, String found) {
    int driver = driver(driverFile);
    if (driver == 0) {
      return "no NVIDIA driver is running here: install driver " + FIRST_DRIVER
          + " or later, or run on the CPU with --device cpu (" + found + ")";
    }
    if (driver > 0 && driver < FIRST_DRIVER) {
      return "the NVIDIA driver is " + driver + " and CUDA 13 needs " + FIRST_DRIVER
          + " or later: update it, or run on the CPU with --device cpu (" + found + ")";
    }
    return "the NVIDIA driver is there, but no GPU can be used: look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, or run on the"
        + " CPU with --device cpu (" + found + ")";
  }

  /** Major version of the driver; 0: none, -1: one that does not tell. */
  private static int driver(Path file) {
    try {
      Matcher m = VERSION.matcher(Files.readString(file));
      return m.find() ? Integer.parseInt(m.group(1)) : -1;
    } catch (IOException e) {
      return 0;
    }
  }

  /** What to say when a library of NVIDIA's is not there or does not fit. */
  public static String missingLibrary(String what, String file, Throwable error) {
    return what + " (" + file + ") cannot be loaded: install the libraries of CUDA 13, for instance with `apt-get install"
        + " cuda-libraries-13-0` or `pip install nvidia-cublas nvidia-cuda-runtime`, and put their folder into"
        + " LD_LIBRARY_PATH; or run on the CPU with --device cpu (" + firstLine(error) + ")";
  }

  private static String firstLine(Throwable error) {
    String text = String.valueOf(error.getMessage());
    for (Throwable t = error; t != null; t = t.getCause()) {
      // The loader's own message only says that nothing was found; that of the system names the file.
      if (String.valueOf(t.getMessage()).contains(".so")) {
        text = t.getMessage();
      }
    }
    return text.strip().lines().findFirst().orElse("");
  }
}
