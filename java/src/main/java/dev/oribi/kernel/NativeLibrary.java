package dev.oribi.kernel;

import dev.oribi.OribiException;
import dev.oribi.kernel.jni.OribiNative;
import java.io.IOException;
import java.net.URL;
import org.bytedeco.javacpp.Loader;

/** Finds the native libraries in their jar, lays them side by side in JavaCPP's cache, and loads the front one. */
final class NativeLibrary {
  /** The libraries that the front library opens by itself; those that a build does not have are left out of its jar. */
  private static final String[] BACKENDS = {
    "liboribi_cpu.so", "liboribi_cpu_avx2.so", "liboribi_cpu_avx512.so", "liboribi_cuda.so"
  };

  private static boolean loaded;

  private NativeLibrary() {}

  static synchronized void load() {
    if (loaded) {
      return;
    }
    try {
      for (String name : BACKENDS) {
        URL resource = OribiNative.class.getResource(Loader.getPlatform() + "/" + name);
        if (resource != null) {
          Loader.cacheResource(resource);
        }
      }
      Loader.load(OribiNative.class);
      loaded = true;
    } catch (IOException | UnsatisfiedLinkError | NoClassDefFoundError e) {
      throw new OribiException(
          "cannot load Oribi's native library for "
              + Loader.getPlatform()
              + ": "
              + e.getMessage()
              + "; put oribi-native with the classifier "
              + Loader.getPlatform()
              + " on the class path",
          e);
    }
  }
}
