package dev.oribi.program;

import dev.oribi.OribiException;

/** Runs a program op by op. A listener sees each op before and after: the profiler and the tests are listeners. */
public final class Executor {
  /** Told of every op. The default does nothing. */
  public interface Listener {
    default void before(Op op, Run run) {}

    default void after(Op op, Run run) {}
  }

  private static final Listener SILENT = new Listener() {};

  private Listener listener = SILENT;

  public void listen(Listener listener) {
    this.listener = listener == null ? SILENT : listener;
  }

  /**
   * Issues every op in order.
   *
   * @throws OribiException that names the op at fault
   */
  public void run(Program program, Run run) {
    for (Op op : program.ops()) {
      listener.before(op, run);
      try {
        op.action().issue(run);
      } catch (OribiException e) {
        throw new OribiException(op.kind().label() + " " + op.name() + ": " + e.getMessage(), e);
      }
      listener.after(op, run);
    }
  }
}
