/**
 * Memory of a machine: arenas taken once, and copies between them and the host.
 *
 * <p>A {@link dev.oribi.device.Device} gives out one {@link dev.oribi.device.Arena} for each plan. The arena is a single
 * allocation of a size that is known before the run; everything a program touches is a {@link dev.oribi.device.Mem}, a
 * range of it. Arenas are closed by hand (try-with-resources), never by the garbage collector. No other package but {@code
 * kernel} looks behind a {@code Mem}.
 *
 * <p>Work that runs beside the main stream, copies to and from pinned host memory above all, goes through {@link
 * dev.oribi.device.Lanes}.
 *
 * <p>Two devices: {@link dev.oribi.device.CpuDevice}, and {@link dev.oribi.device.CudaDevice}, which reaches memory, copies,
 * events and graphs through JavaCPP's binding of the CUDA runtime. That binding needs a driver merely to be loaded, so no
 * class that names it is touched before Oribi's own kernels have found a card; {@link dev.oribi.device.CudaSetup} explains
 * what is missing without touching it.
 */
package dev.oribi.device;
