/**
 * Generation: the forward half of the model as a program with a key/value cache, and a loop that draws one token at a time.
 *
 * <p>The same layers and the same planner as in training. {@link dev.oribi.generate.Generator} keeps the cache between
 * calls, so that a chat only computes what is new since the last turn.
 */
package dev.oribi.generate;
