/**
 * A model behind an HTTP address, in the words of OpenAI's interface, so that programs that talk to one can talk to this.
 *
 * <p>{@link dev.oribi.serve.ChatServer} is the JDK's own server with four addresses; {@link dev.oribi.serve.ChatRequest} is what a
 * caller may ask, checked. Requests wait for each other: a model answers one at a time.
 */
package dev.oribi.serve;
