package dev.oribi.langchain4j;

import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;

/**
 * Answers of a shared {@link OribiModel} piece by piece, on the caller's thread: the call returns when the answer is whole.
 *
 * <p>What a handler throws goes to its own {@code onError} and ends the answer.
 */
final class OribiStreamingChatModel implements StreamingChatModel {
  private final OribiModel model;

  OribiStreamingChatModel(OribiModel model) {
    this.model = model;
  }

  @Override
  public void doChat(ChatRequest request, StreamingChatResponseHandler handler) {
    ChatResponse response;
    try {
      response = model.answer(request, piece -> {
        if (!piece.isEmpty()) {
          handler.onPartialResponse(piece);
        }
        return true;
      });
    } catch (RuntimeException e) {
      handler.onError(e);
      return;
    }
    handler.onCompleteResponse(response);
  }
}
