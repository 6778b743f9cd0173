/**
 * Measurements of whole steps on random weights of real shapes: no files, no network. {@code jmh/} measures single kernels.
 */
package dev.oribi.bench;
