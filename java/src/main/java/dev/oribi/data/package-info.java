/**
 * Training data: files to rows, rows to micro-batches.
 *
 * <p>{@link dev.oribi.data.Dataset} reads files into {@link dev.oribi.data.Row}s; {@link dev.oribi.data.Batches} orders
 * them, epoch by epoch, into {@link dev.oribi.data.MicroBatch}es.
 */
package dev.oribi.data;
