/**
 * The layers of a decoder, each with its forward pass and its hand-derived backward pass in one class, in mirrored order.
 *
 * <p>{@code emitForward} appends the ops of the forward pass and leaves in a {@link dev.oribi.layer.Saved} what the backward
 * pass reads; {@code emitBackward} takes that and the gradient of the layer's output. A {@link dev.oribi.layer.Saving} says which
 * tensors are kept, made again or sent to the host meanwhile. Nothing is differentiated automatically: each
 * formula stands under {@code docs/derivations}. Rules that hold everywhere: gradients of parameters are added ({@code +=}),
 * gradients of activations are written ({@code =}), the gradient of the residual stream is added to in place.
 *
 * <p>Legend: N tokens, C hidden size, H query heads, Hkv key/value heads, D head size, F intermediate size, V vocabulary, R
 * LoRA rank. Read {@link dev.oribi.layer.Linear} first: it is where the adapter lives.
 */
package dev.oribi.layer;
