/**
 * Text on its way to the model and back.
 *
 * <p>{@link dev.oribi.text.Tokenizer} turns text into ids; {@link dev.oribi.text.StreamDecoder} turns ids that arrive one
 * by one into text; {@link dev.oribi.text.ChatTemplate} writes a conversation as the model was trained to read it.
 */
package dev.oribi.text;
