/**
 * Weights in 4 bits as bitsandbytes stores them in a checkpoint.
 *
 * <p>A linear layer {@code X} in NF4 with double quantization is six tensors, {@code X.weight} and five beside it; {@link
 * dev.oribi.quant.Nf4Format} has their names, sizes and tables, checks them, and writes them. The arithmetic is in the
 * kernels ({@code oribi_nf4} of {@code oribi.h}); how a model holds such weights, in {@link dev.oribi.program.Nf4Matrix}.
 */
package dev.oribi.quant;
