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
 *   <li>{@link dev.oribi.io.SafetensorsWriter}: the way back, in a canonical order, so that equal content gives equal bytes.
 *   <li>{@link dev.oribi.io.AtomicFiles}: how every file and folder is written, beside its target and renamed when whole.
 *   <li>{@link dev.oribi.io.Json}: strict, bounded JSON for the configuration files around the weights.
 * </ol>
 *
 * <pre>{@code
 * try (Checkpoint weights = Checkpoint.open(Path.of("my-model"))) {
 *   TensorInfo norm = weights.tensor("model.norm.weight");
 *   FloatBuffer values = FloatBuffer.allocate((int) norm.elements());
 *   weights.readFloats(norm, 0, values);
 * }
 * }</pre>
 *
 * <p>All readers treat their input as hostile: a length is compared with the size of the file before memory is taken for it,
 * and every fault is one {@link dev.oribi.OribiException} that names the file and the place.
 */
package dev.oribi.io;
