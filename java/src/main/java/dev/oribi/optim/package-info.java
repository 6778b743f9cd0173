/**
 * The learning rate over a run.
 *
 * <p>AdamW itself is a kernel; what remains here is which rate each of its steps gets. {@link
 * dev.oribi.optim.SchedulerType} names the shapes that Hugging Face's trainers offer, and {@link
 * dev.oribi.optim.Schedule} computes them. A schedule has no state, so that a resumed run needs nothing but the number of
 * its step:
 * <pre>{@code
 * Schedule schedule = new Schedule(SchedulerType.COSINE, 2e-4, 10, 100, 0);
 * double first = schedule.rate(0);   // 0: the warm-up begins
 * double peak = schedule.rate(10);   // 2e-4
 * }</pre>
 */
package dev.oribi.optim;
