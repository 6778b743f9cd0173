package dev.oribi.langchain4j;

import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;

/**
 * Answers of a shared {@link OribiModel} piece by piece. A call returns at once; the handler is called by a thread of its own, so that
 * a slow one holds up nothing but itself: what it has not taken yet is kept.
 *
 * <p>As in LangChain4j's other models, what a handler throws goes to its own {@code onError}, and the answer goes on; it is ended by
 * {@code cancel} of the {@code StreamingHandle} that comes with each piece, after which the handler is called no more.
 */
final class OribiStreamingChatModel implements StreamingChatModel {
  private final OribiModel model;

  OribiStreamingChatModel(OribiModel model) {
    this.model = model;
  }

  @Override
  public void doChat(ChatRequest request, StreamingChatResponseHandler handler) {
    Delivery delivery = new Delivery(handler);
    model.ask(request, delivery::put).whenComplete(delivery::end);
    Thread thread = new Thread(delivery, "oribi-stream");
    thread.setDaemon(true);
    thread.start();
  }
}
