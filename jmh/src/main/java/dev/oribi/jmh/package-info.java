/**
 * JMH benchmarks of what runs below the step program: every kernel, the products, the call into native code, and the whole
 * step. {@code ci/jmh} runs them all, with {@code --device cuda} on a GPU.
 *
 * <p>{@link dev.oribi.jmh.Case} lists the kernels: for each the call, the fewest bytes that it must move and the floating-point
 * operations that it must do, stated here once more and not taken from the program's ops, so that the two can be compared. A
 * result is a rate, and its share of what the same device reached a moment before on a product or a plain sum of arrays.
 */
package dev.oribi.jmh;
