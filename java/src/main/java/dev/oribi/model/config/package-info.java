/**
 * What a model and an adapter are, in numbers: the configuration files that Hugging Face's libraries write.
 *
 * <p>{@link dev.oribi.model.config.ModelConfig} reads {@code config.json}, with {@link dev.oribi.model.config.RopeConfig} for the
 * rotary positions; what the layers are is described by the model's family, in package {@code family}. {@link
 * dev.oribi.model.config.ModelTensors} turns both into the names and shapes of the weights; {@link
 * dev.oribi.model.config.GenerationConfig} reads how the model likes to be sampled; {@link dev.oribi.model.config.LoraConfig}
 * reads and writes the description of a LoRA adapter by the rules of PEFT.
 *
 * <p>One rule holds for all of them: a setting that changes the result and that Oribi does not implement is refused by name. A
 * model that loads is computed as its authors meant it.
 */
package dev.oribi.model.config;
