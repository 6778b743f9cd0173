package dev.oribi.langchain4j;

import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.ChatResponse;

/** Whole answers of a shared {@link OribiModel}. */
final class OribiChatModel implements ChatModel {
  private final OribiModel model;

  OribiChatModel(OribiModel model) {
    this.model = model;
  }

  @Override
  public ChatResponse doChat(ChatRequest request) {
    return model.answer(request);
  }
}
