package dev.oribi.kernel.jni.presets;

import org.bytedeco.javacpp.annotation.Platform;
import org.bytedeco.javacpp.annotation.Properties;
import org.bytedeco.javacpp.tools.Info;
import org.bytedeco.javacpp.tools.InfoMap;
import org.bytedeco.javacpp.tools.InfoMapper;

/**
 * Tells JavaCPP how to turn {@code oribi.h} into Java: functions and enum values become static members of
 * {@code dev.oribi.kernel.jni.OribiNative}, structs become classes beside it, and {@code oribi_ctx} an opaque pointer.
 *
 * <p>Only {@code liboribi} is linked; it opens the library of a device by itself, from its own folder.
 */
@Properties(
    value = @Platform(value = "linux-x86_64", include = "oribi.h", link = "oribi"),
    target = "dev.oribi.kernel.jni",
    global = "dev.oribi.kernel.jni.OribiNative")
public class OribiPreset implements InfoMapper {
  @Override
  public void map(InfoMap infoMap) {
    infoMap.put(new Info("ORIBI_API").cppTypes().annotations());
    for (String name : new String[] {"oribi_status", "oribi_dtype", "oribi_device", "oribi_activation", "oribi_router_score"}) {
      infoMap.put(new Info(name).cast().valueTypes("int"));
    }
    infoMap.put(new Info("oribi_ctx").pointerTypes("oribi_ctx"));
  }
}
