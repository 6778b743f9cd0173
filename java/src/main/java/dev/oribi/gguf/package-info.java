/**
 * GGUF, the file that llama.cpp, Ollama and their kin run: reading it, writing it, and the blocks in which it packs weights.
 *
 * <p>One file holds everything: sizes of the model, tokenizer, chat template, and the tensors. Reading order:
 *
 * <ol>
 *   <li>{@link dev.oribi.gguf.GgmlType}: the element types; {@link dev.oribi.gguf.GgmlBlocks}: values to blocks and back, as ggml
 *       does it, byte for byte.
 *   <li>{@link dev.oribi.gguf.GgufFile}: one file, checked when opened and then mapped into memory.
 *   <li>{@link dev.oribi.gguf.GgufWriter}: the way back, streamed, and whole or not at all.
 *   <li>{@link dev.oribi.gguf.GgufKeys}, {@link dev.oribi.gguf.GgufNames} and package {@link dev.oribi.gguf.family}: what a file says of a
 *       model, and where each weight of a family stands.
 *   <li>{@link dev.oribi.gguf.GgufModel}: the weights of a file under Hugging Face's names.
 * </ol>
 *
 * <pre>{@code
 * try (GgufFile file = GgufFile.open(Path.of("model-Q4_K_M.gguf"))) {
 *   GgufTensor q = file.tensor("blk.0.attn_q.weight");
 *   FloatBuffer row = FloatBuffer.allocate((int) q.cols());
 *   file.readFloats(q, 0, row);
 * }
 * }</pre>
 */
package dev.oribi.gguf;
