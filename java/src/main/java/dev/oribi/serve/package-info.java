/**
 * A model behind an HTTP address, in the words of OpenAI's interface, so that programs that talk to one can talk to this.
 *
 * <p>{@link dev.oribi.serve.ChatServer} is the JDK's own server with four addresses; {@link dev.oribi.serve.ChatRequest} is what a
 * caller may ask, checked. Requests wait for each other in a queue ({@code AnswerQueue}): a model answers one at a time, and what
 * it writes lies in a buffer ({@code Outbox}) until its caller reads it. {@link dev.oribi.serve.ServeLimits} says how much of
 * all this one caller may take.
 */
package dev.oribi.serve;
