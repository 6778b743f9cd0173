/**
 * What the tests stand on: a decoder in double precision that is simple enough to check by eye ({@link
 * dev.oribi.testing.ReferenceDecoder}), small models with random weights ({@link dev.oribi.testing.TinyModels}, {@link
 * dev.oribi.testing.StepFixture}), and a device whose memory has guards around it ({@link
 * dev.oribi.testing.GuardedDevice}).
 */
package dev.oribi.testing;
