package dev.oribi.export;

/** What a trained model is written as. */
public enum ExportFormat {
  /** The adapter in PEFT's files. */
  ADAPTER,
  /** The whole model with the adapter added to its weights, in the 16 (or 32) bits of the base. */
  MERGED,
  /** The same with its linear layers in NF4, as bitsandbytes stores it. */
  MERGED_NF4,
  /** One GGUF file. */
  GGUF,
  /** The adapter as a GGUF file for llama.cpp's --lora. */
  GGUF_ADAPTER,
  /** A folder with a GGUF file and an Ollama Modelfile. */
  OLLAMA
}
