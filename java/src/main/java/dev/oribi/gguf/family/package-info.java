/**
 * How each family of models is written in GGUF and read from it. Reading order: {@link dev.oribi.gguf.family.GgufFamily}, then a
 * descriptor such as {@code Qwen3MoeGguf}, then {@code GgufRope} and {@code SameModel}.
 */
package dev.oribi.gguf.family;
