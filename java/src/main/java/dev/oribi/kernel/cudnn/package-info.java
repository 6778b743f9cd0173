/**
 * cuDNN's fused attention through its backend interface, without native code of our own.
 *
 * <p>cuDNN has no function for attention. It is given a graph of small operations (products, exponentials, reductions, masks),
 * recognises it as attention, and runs it as one kernel that never builds the scores. To be read in this order: {@link
 * dev.oribi.kernel.cudnn.AttentionSpec} is what a plan depends on, {@link dev.oribi.kernel.cudnn.AttentionGraph} the graph of
 * each pass, {@link dev.oribi.kernel.cudnn.Graph} tensors and operations, {@link dev.oribi.kernel.cudnn.Plan} the kernel found
 * for a graph, {@link dev.oribi.kernel.cudnn.AttentionPass} a plan with the layout of its workspace. {@link
 * dev.oribi.kernel.cudnn.Descriptors} is the plumbing of the interface.
 *
 * <p>What the graph must look like is documented nowhere in full; what comments here call the
 * pattern was found by trying, and {@code CudnnAttentionTest} holds it against the formulas.
 */
package dev.oribi.kernel.cudnn;
