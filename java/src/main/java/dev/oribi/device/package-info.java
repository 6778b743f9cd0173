/**
 * Memory of a machine: arenas taken once, and copies between them and the host.
 *
 * <p>A {@link dev.oribi.device.Device} gives out one {@link dev.oribi.device.Arena} for each plan. The arena is a single
 * allocation of a size that is known before the run; everything a program touches is a {@link dev.oribi.device.Mem}, a
 * range of it. Arenas are closed by hand (try-with-resources), never by the garbage collector. No other package but {@code
 * kernel} looks behind a {@code Mem}.
 */
package dev.oribi.device;
