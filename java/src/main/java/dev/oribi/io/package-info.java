/**
 * Files: reading what nobody vouched for, writing what must never be half there.
 *
 * <p>Weights travel in <em>safetensors</em> files. Such a file is eight bytes of length, a JSON header of that length, and the
 * data; the header gives each tensor a name, a type, a shape and a byte range. Nothing in it can run, which is why Oribi reads
 * no other format of weights. Reading order:
 *
 * <ol>
 *   <li>{@link dev.oribi.io.SafetensorsFile}: one file, checked when opened and then mapped into memory; {@link
 *       dev.oribi.io.TensorInfo} says where a tensor lies, {@link dev.oribi.io.Half} widens 16-bit floats.
 *   <li>{@link dev.oribi.io.Checkpoint}: the one or many files of a model folder as one map of tensors.
 * </ol>
 */
package dev.oribi.io;
