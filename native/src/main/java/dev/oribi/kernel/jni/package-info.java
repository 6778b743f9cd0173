/**
 * The generated binding of {@code oribi.h}, one Java method a C function, with no meaning added.
 *
 * <p>Only {@code dev.oribi.kernel} calls it: there every status becomes an exception and every pointer a typed view of
 * an arena. The sources of this package are written by the build into {@code native/target} from the header and
 * {@link dev.oribi.kernel.jni.presets.OribiPreset}; they are never edited.
 *
 * <p>The libraries travel in a jar of their own, under {@code dev/oribi/kernel/jni/linux-x86_64}. {@code liboribi.so}
 * opens {@code liboribi_cpu*.so} and {@code liboribi_cuda.so} from its own folder, so they must all be unpacked there
 * before the first context is made.
 */
package dev.oribi.kernel.jni;
