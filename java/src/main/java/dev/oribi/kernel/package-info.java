/**
 * The arithmetic: the kernels of {@code oribi.h} on ranges of device memory, and dense products through a library.
 *
 * <p>{@link dev.oribi.kernel.Kernels} is the whole header, one method a function, with {@link dev.oribi.device.Mem} in
 * place of pointers; a status other than OK becomes an {@link dev.oribi.OribiException} that carries the kernel's own
 * sentence. {@link dev.oribi.kernel.Gemm} multiplies matrices: OpenBLAS on the CPU, cublasLt on a GPU. {@link
 * dev.oribi.kernel.Attention} has two implementations on a GPU, the kernels' own and cuDNN's, and {@link
 * dev.oribi.kernel.AttentionChoice} takes one of them; how cuDNN is told what to compute is the matter of {@code
 * kernel.cudnn}. Nothing above this package sees a pointer.
 */
package dev.oribi.kernel;
