/**
 * The families of models: for each, one small descriptor that reads a {@code config.json} into an {@link
 * dev.oribi.model.family.Architecture}, which says what every layer computes and what its tensors are called.
 *
 * <p>Architecture is data here and code in package {@code layer}: {@link dev.oribi.model.Decoder} builds its layers from the
 * description and knows no family. {@link dev.oribi.model.family.Families} is the list. How to add one is told in {@code
 * docs/new-family.md}; what is odd about each stands in the README of its folder under {@code models/}.
 */
package dev.oribi.model.family;
