package dev.oribi.langchain4j;

import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.chat.response.StreamingHandle;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.LinkedBlockingQueue;

/** An answer on its way from the model's thread to a handler; run by the thread that calls the handler. */
final class Delivery implements Runnable, StreamingHandle {
  private static final System.Logger LOG = System.getLogger(Delivery.class.getName());

  /** One of the three. */
  private record Event(String piece, ChatResponse whole, Throwable failure) {}

  private final StreamingChatResponseHandler handler;
  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
  private volatile boolean cancelled;

  Delivery(StreamingChatResponseHandler handler) {
    this.handler = handler;
  }

  /** Takes a piece from the model; false: no more is wanted. */
  boolean put(String piece) {
    if (!piece.isEmpty()) {
      events.add(new Event(piece, null, null));
    }
    return !cancelled;
  }

  /** Takes the end of the answer, one of both. */
  void end(ChatResponse whole, Throwable failure) {
    events.add(new Event(null, whole, failure instanceof CompletionException && failure.getCause() != null ? failure.getCause() : failure));
  }

  @Override
  public void run() {
    try {
      Event event = events.take();
      while (event.piece != null && !cancelled) {
        PartialResponse piece = new PartialResponse(event.piece);
        call(() -> handler.onPartialResponse(piece, new PartialResponseContext(this)));
        event = events.take();
      }
      if (cancelled) {
        return;
      }
      if (event.failure != null) {
        tell(event.failure);
      } else {
        ChatResponse whole = event.whole;
        call(() -> handler.onCompleteResponse(whole));
      }
    } catch (InterruptedException e) {
      cancelled = true; // by the handler's own code: nobody else has this thread
      tell(e);
    }
  }

  private void call(Runnable step) {
    try {
      step.run();
    } catch (RuntimeException e) {
      tell(e);
    }
  }

  private void tell(Throwable failure) {
    try {
      handler.onError(failure);
    } catch (RuntimeException e) {
      LOG.log(System.Logger.Level.WARNING, "a handler's onError failed", e);
    }
  }

  @Override
  public void cancel() {
    cancelled = true;
  }

  @Override
  public boolean isCancelled() {
    return cancelled;
  }
}
