/**
 * A training run: its configuration, its loop, its checkpoints and its logs.
 *
 * <p>Read {@link dev.oribi.train.Trainer} first. It is the whole story in the order in which it happens: batch, forward,
 * loss, backward, clip, update, log. What it asks of a model is the small interface {@link dev.oribi.train.TrainStep}, so
 * that the story knows nothing of layers, kernels or devices, and can be tested with a model of three numbers.
 *
 * <h2>One number to divide by</h2>
 * The loss of an optimizer step is the sum over its target tokens divided by their number over <em>all</em> its
 * micro-batches. The trainer counts them before the first forward pass and gives every micro-batch the same factor, so
 * that 8 rows at once and 8 times one row are the same step however the tokens are spread.
 *
 * <h2>Stopping at any moment</h2>
 * Everything random is a function of the seed and of a position: the order of the rows of the epoch, dropout of the
 * number of the micro-batch, the learning rate of the number of the step. What must be stored is therefore little: the
 * trained values and the two moments of AdamW, exactly, and the counters. {@link dev.oribi.train.Checkpoints} writes them
 * to a folder beside its target and renames it when whole. A run that goes on from one repeats the run that never stopped,
 * bit by bit.
 *
 * <h2>Fitting into memory</h2>
 * {@link dev.oribi.train.ModelStep} is the step of a real model: programs, planned and placed before anything is taken. What the
 * micro-batch keeps, makes again and sends to the host is decided by {@link dev.oribi.train.MemoryPlan}, which writes each choice
 * out to know its bytes and asks {@link dev.oribi.train.Calibration} for its time.
 *
 * <h2>Order of reading</h2>
 * {@link dev.oribi.train.TrainConfig}, {@link dev.oribi.train.Trainer}, {@link dev.oribi.train.TrainStep}, {@link
 * dev.oribi.train.ModelStep}, {@link dev.oribi.train.MemoryPlan}, {@link dev.oribi.train.Checkpoints}, {@link dev.oribi.train.TrainLog}.
 */
package dev.oribi.train;
