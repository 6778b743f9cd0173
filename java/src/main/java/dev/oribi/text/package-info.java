/**
 * Text on its way to the model and back.
 *
 * <p>{@link dev.oribi.text.Tokenizer} turns text into ids: {@code TokenizerFiles} finds its files, {@code BytePairJson} and {@code
 * SentencePieces} read them into the settings of {@code BytePairEngine}, which cuts text by a {@code WordRule} and merges pairs in a
 * {@code Merger}; {@code LibraryEngine} does what these do not cover. {@link dev.oribi.text.StreamDecoder} turns ids that arrive one
 * by one into text; {@link dev.oribi.text.ChatTemplate} writes a conversation as the model was trained to read it.
 */
package dev.oribi.text;
