package dev.oribi.cli;

import java.io.OutputStream;
import java.io.PrintStream;
import java.util.concurrent.CountDownLatch;

/** The command line in a process that comes no further than to its first line of output, so that it is there to be ended. */
final class HeldMain {
  private HeldMain() {}

  /** As {@link Main#main}, without an end. */
  public static void main(String[] arguments) {
    System.setOut(new PrintStream(new OutputStream() {
      @Override
      public void write(int b) {
        try {
          new CountDownLatch(1).await();
        } catch (InterruptedException e) {
          throw new IllegalStateException(e);
        }
      }
    }, true));
    Main.main(arguments);
  }
}
