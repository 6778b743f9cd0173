/**
 * A training step is a program, planned before it runs.
 *
 * <p>Layers append {@link dev.oribi.program.Op}s to a {@link dev.oribi.program.Program} through {@link
 * dev.oribi.program.Emit}; nothing runs meanwhile. Each op names the {@link dev.oribi.program.Buffer}s that it reads and
 * writes, its bytes and its FLOPs. A {@link dev.oribi.program.Plan} then gives every buffer a place in one arena ({@code
 * Place}), proves the result sound ({@code Verify}) and knows the peak to the byte before a byte is taken. The {@link
 * dev.oribi.program.Executor} issues the ops in order; a {@link dev.oribi.program.Run} carries what changes from run to run:
 * the numbers of tokens, targets and sequences. All else that changes lies in the device's memory; so a GPU can record
 * programs ({@code Recordings}) and replay them.
 *
 * <pre>{@code
 * Program program = new Program("micro_step");
 * Emit emit = new Emit(program, sizes, library);
 * layer.emitForward(emit, ...);               // appends ops
 * Plan plan = new Plan(List.of(program), List.of());
 * System.out.println(plan.bytes());           // known now
 * plan.take(device, "training");              // one allocation
 * new Executor().run(program, run);
 * }</pre>
 *
 * Read {@code Buffer}, {@code Op}, {@code Emit}, {@code Plan}, {@code Executor}, in this order.
 */
package dev.oribi.program;
