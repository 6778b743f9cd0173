package dev.oribi.serve;

import dev.oribi.generate.TextModel;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/**
 * The one thread that runs the model, and the requests that wait for it. Who comes first is answered first; who finds
 * the queue full is refused at once.
 */
final class AnswerQueue implements AutoCloseable {
  /** A request, and where its answer goes. */
  final class Ticket implements Runnable {
    private final int[] prompt;
    private final ChatRequest request;
    private final Outbox outbox;

    private Ticket(int[] prompt, ChatRequest request) {
      this.prompt = prompt;
      this.request = request;
      this.outbox = new Outbox(request.stream() ? limits.buffered() : 0, limits.full());
    }

    Outbox outbox() {
      return outbox;
    }

    /** Called by the model's thread. */
    @Override
    public void run() {
      if (!outbox.wanted()) {
        return; // the caller has gone away while it waited
      }
      try {
        outbox.finish(model.answer(prompt, request.options(), request.stops(), outbox::put));
      } catch (RuntimeException e) {
        outbox.fail(e);
      } catch (Error e) {
        outbox.fail(new IllegalStateException(e.toString(), e));
        throw e;
      }
    }

    /** The caller takes no more; a place in the queue is free again. */
    void leave() {
      outbox.abandon();
      thread.remove(this);
      tickets.remove(this);
    }
  }

  private final TextModel model;
  private final ServeLimits limits;
  private final ThreadPoolExecutor thread;
  private final Set<Ticket> tickets = ConcurrentHashMap.newKeySet();

  AnswerQueue(TextModel model, ServeLimits limits) {
    this.model = model;
    this.limits = limits;
    this.thread = new ThreadPoolExecutor(1, 1, 0, TimeUnit.SECONDS, new ArrayBlockingQueue<>(limits.waiting()), task -> {
      Thread made = new Thread(task, "oribi-serve-model");
      made.setDaemon(true);
      return made;
    });
  }

  /** Queues a request; whoever asks calls {@link Ticket#leave} when it is done, however that comes about. */
  Ticket ask(int[] prompt, ChatRequest request) {
    Ticket ticket = new Ticket(prompt, request);
    tickets.add(ticket);
    try {
      thread.execute(ticket);
    } catch (RejectedExecutionException e) {
      tickets.remove(ticket);
      throw thread.isShutdown() ? stopping() : new Refusal(503, "too many requests wait for the model: come again later");
    }
    return ticket;
  }

  static Refusal stopping() {
    return new Refusal(503, "the server is stopping");
  }

  /** Ends the answer under way and those that wait, and returns when the model is at rest and may be closed. */
  @Override
  public void close() {
    thread.shutdown();
    tickets.forEach(t -> t.outbox.fail(stopping()));
    boolean interrupted = false;
    while (!thread.isTerminated()) {
      try {
        thread.awaitTermination(1, TimeUnit.DAYS);
      } catch (InterruptedException e) {
        interrupted = true; // the model must not be taken away under its thread
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
