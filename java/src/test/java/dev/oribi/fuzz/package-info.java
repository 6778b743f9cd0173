/**
 * Targets for a fuzzer, one for each reader of unknown files: {@code ci/fuzz} runs them with Jazzer, which follows the code that an
 * input reaches. A target fails if a reader throws anything but an {@link dev.oribi.OribiException} of one line, runs out of memory or
 * takes too long. {@link dev.oribi.fuzz.FuzzTargetsTest} runs each on its seeds and on some thousand changes of them.
 */
package dev.oribi.fuzz;
