/**
 * What a model and an adapter are, in numbers: the configuration files that Hugging Face's libraries write.
 *
 * <p>The architecture is code (packages {@code model} and {@code layer}); a particular model is a record of numbers. {@link
 * dev.oribi.model.config.ModelConfig} reads {@code config.json}, with {@link dev.oribi.model.config.RopeConfig} for the rotary
 * positions; {@link dev.oribi.model.config.ModelTensors} turns these numbers into the names and shapes of the weights; {@link
 * dev.oribi.model.config.GenerationConfig} reads how the model likes to be sampled; {@link dev.oribi.model.config.LoraConfig}
 * reads and writes the description of a LoRA adapter by the rules of PEFT.
 *
 * <p>One rule holds for all of them: a setting that changes the result and that Oribi does not implement is refused by name. A
 * model that loads is computed as its authors meant it.
 */
package dev.oribi.model.config;
