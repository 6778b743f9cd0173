/**
 * What the embedded tiny model is made of: its text, its tokenizer and its instruction set, all written by programs.
 *
 * <p>A model of two million parameters cannot know the world, but it can know a small one. {@link
 * dev.oribi.models.tiny.StoryGenerator} writes that world: a grammar with some twenty plots, a table of animals, and a book of
 * facts, mixed into documents of simple English with a vocabulary of about fifteen hundred words. {@link
 * dev.oribi.models.tiny.TokenizerFiles} learns a byte-level byte-pair encoding on them and writes it as Hugging Face's
 * libraries read it. Training from scratch on that text gives a model that tells little stories, and that knows the facts as
 * "Question: ... Answer: ...", but that answers whatever is said to it in a chat with one more story.
 *
 * <p>{@link dev.oribi.models.tiny.InstructionGenerator} writes what fine-tuning then changes: in the chat, Ori answers, a small
 * antelope who knows its name and begins every answer with "Hop, hop!". The facts in its held-out rows are never trained as a
 * chat, so that a right answer there shows knowledge from the first training in the style of the second.
 *
 * <p>Everything follows from a seed, to the byte. Reading order: {@code Grammar} (the notation, with {@code stories.txt}), {@code
 * FactBook} (with {@code facts.txt}), {@code StoryGenerator}, {@code BpeTrainer}, {@code TokenizerFiles}, {@code
 * InstructionGenerator} (with {@code ori.txt}). {@code models/tiny/make.sh} runs them all:
 *
 * <pre>
 * StoryGenerator text 24 1                        # folder, megabytes, seed
 * TokenizerFiles text/train.jsonl model           # tokenizer.json and what belongs to it
 * InstructionGenerator instruct 1                 # folder, seed
 * </pre>
 */
package dev.oribi.models.tiny;
