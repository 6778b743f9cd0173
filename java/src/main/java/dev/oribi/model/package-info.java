/**
 * Models: the graph of an architecture, its weights, and its files.
 *
 * <p>{@link dev.oribi.model.Decoder} is the graph: it declares the tensors and emits the programs for training, evaluation,
 * logits and generation, out of the layers. {@link dev.oribi.model.Weights} fills the tensors from a Hugging Face folder, an
 * adapter or random numbers, and writes them back. Numbers come from {@code config.json} through {@link
 * dev.oribi.model.config.ModelConfig}; an architecture is code, a model is numbers. {@link dev.oribi.model.Machine} is the
 * device that all of it runs on, with the libraries that it uses there.
 */
package dev.oribi.model;
