package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.cudnnCreate;
import static org.bytedeco.cuda.global.cudnn.cudnnDestroy;
import static org.bytedeco.cuda.global.cudnn.cudnnGetVersion;
import static org.bytedeco.cuda.global.cudnn.cudnnSetStream;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudnn.cudnnContext;
import org.bytedeco.cuda.global.cudnn;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;

/** cuDNN as this machine has it: loaded at first use, never required. */
public final class CudnnLibrary {
  /** The first version whose attention takes masks of minus infinity; before it, 9.10.0 and 9.10.1 give wrong results. */
  private static final long OLDEST = 91002;

  private static final String INSTALL =
      "install cuDNN 9 for CUDA 13 (Debian, Ubuntu: apt-get install libcudnn9-cuda-13 from NVIDIA's repository; anywhere:"
          + " pip install nvidia-cudnn-cu13, with its lib folder on LD_LIBRARY_PATH)";


  private static String unusable;
  private static boolean tried;

  private CudnnLibrary() {}

  /** Why cuDNN cannot be used here and what to do, one sentence; null: it can. */
  public static synchronized String unusable() {
    if (!tried) {
      tried = true;
      unusable = load();
    }
    return unusable;
  }

  private static String load() {
    try {
      Loader.load(cudnn.class);
      long version = cudnnGetVersion();
      return version >= OLDEST
          ? null
          : "cuDNN " + text(version) + " is too old for attention, " + text(OLDEST) + " or newer is needed: " + INSTALL;
    } catch (LinkageError e) {
      return "cuDNN cannot be loaded (" + reason(e) + "): " + INSTALL;
    }
  }

  /** The loader's own message only says that nothing was found; that of the system, in a cause, names the file. */
  private static String reason(Throwable error) {
    String reason = String.valueOf(error.getMessage());
    for (Throwable t = error; t != null; t = t.getCause()) {
      if (String.valueOf(t.getMessage()).contains(".so")) {
        reason = t.getMessage();
      }
    }
    return reason.strip().lines().findFirst().orElse("");
  }

  /** "9.19.0". Only where cuDNN is usable. */
  public static String version() {
    return text(cudnnGetVersion());
  }

  private static String text(long version) {
    return version / 10000 + "." + version / 100 % 100 + "." + version % 100;
  }

  /** A handle whose executions go to a stream; {@link #destroy} gives it back. */
  public static cudnnContext create(long stream) {
    cudnnContext handle = new cudnnContext();
    CudnnException.check(cudnnCreate(handle), "creating a handle");
    CudnnException.check(cudnnSetStream(handle, new Stream(stream)), "setting the stream");
    return handle;
  }

  public static void destroy(cudnnContext handle) {
    cudnnDestroy(handle);
  }

  /** A stream by its address; JavaCPP has no constructor for that. */
  private static final class Stream extends CUstream_st {
    Stream(long stream) {
      super((Pointer) null);
      address = stream;
    }
  }
}
