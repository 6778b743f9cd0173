package dev.oribi.langchain4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.output.FinishReason;
import dev.oribi.generate.TextModel;
import dev.oribi.model.Machine;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The tiny model through LangChain4j's interfaces, alone and shared. */
class OribiModelTest {
  private static final Path TINY = Path.of("../models/tiny/model");
  private static final ChatRequest QUESTION = question().build();

  private static ChatRequest.Builder question() {
    return ChatRequest.builder().messages(UserMessage.from("Where does a rabbit live?")).temperature(0.0).maxOutputTokens(16);
  }

  @TempDir private static Path adapterFolder;
  private static OribiModel model;

  @BeforeAll
  static void open() {
    TinyAdapter.write(adapterFolder);
    model = OribiModel.of(TextModel.open(TINY, null, TextModel.Storage.PLAIN, Machine.cpu(1), 128));
  }

  @AfterAll
  static void close() {
    model.close();
    assertThatThrownBy(() -> model.chatModel().chat(QUESTION)).isInstanceOf(IllegalStateException.class);
  }

  private static String text(ChatRequest request) {
    return model.chatModel().chat(request).aiMessage().text();
  }

  @Test
  void answersWithUsageAndReason() {
    ChatResponse response = model.chatModel().chat(QUESTION);
    assertThat(response.aiMessage().text()).isNotBlank();
    assertThat(response.tokenUsage().inputTokenCount()).isPositive();
    assertThat(response.tokenUsage().outputTokenCount()).isBetween(1, 16);
    assertThat(response.finishReason()).isIn(FinishReason.STOP, FinishReason.LENGTH);
    assertThat(text(QUESTION)).isEqualTo(response.aiMessage().text());
  }

  @Test
  void historyAndStopsCount() {
    String first = text(QUESTION);
    ChatRequest more = ChatRequest.builder().messages(UserMessage.from("Where does a rabbit live?"), AiMessage.from(first), UserMessage.from("And a fox?"))
        .temperature(0.0).maxOutputTokens(16).build();
    assertThat(model.chatModel().chat(more).tokenUsage().inputTokenCount()).isGreaterThan(model.chatModel().chat(QUESTION).tokenUsage().inputTokenCount());
    String stop = first.substring(3, 5);
    String cut = text(question().stopSequences(List.of(stop)).build());
    assertThat(cut).isEqualTo(first.substring(0, first.indexOf(stop)));
  }

  @Test
  void streamsTheSameText() {
    StringBuilder text = new StringBuilder();
    CompletableFuture<ChatResponse> whole = new CompletableFuture<>();
    model.streamingChatModel().chat(QUESTION, new StreamingChatResponseHandler() {
      @Override
      public void onPartialResponse(String piece) {
        text.append(piece);
      }

      @Override
      public void onCompleteResponse(ChatResponse response) {
        whole.complete(response);
      }

      @Override
      public void onError(Throwable e) {
        whole.completeExceptionally(e);
      }
    });
    assertThat(whole.join().aiMessage().text()).isEqualTo(text.toString()).isEqualTo(text(QUESTION));
  }

  @Test
  void whatCannotBeHonouredIsRefused() {
    ChatRequest tools = question().toolSpecifications(ToolSpecification.builder().name("f").build()).build();
    assertThatThrownBy(() -> model.chatModel().chat(tools)).isInstanceOf(UnsupportedFeatureException.class);
    CompletableFuture<Throwable> error = new CompletableFuture<>();
    model.streamingChatModel().chat(tools, new StreamingChatResponseHandler() {
      @Override
      public void onCompleteResponse(ChatResponse response) {
        error.complete(null);
      }

      @Override
      public void onError(Throwable e) {
        error.complete(e);
      }
    });
    assertThat(error.join()).isInstanceOf(UnsupportedFeatureException.class);
  }

  /** Threads ask while the adapter goes on and off: every answer is that of the base or that of the adapter, never a mixture. */
  @Test
  void adaptersAreSwappedWhileItRuns() throws InterruptedException {
    String base = text(QUESTION);
    model.useAdapter(adapterFolder);
    assertThat(model.adapter()).contains(adapterFolder);
    String adapted = text(QUESTION);
    assertThat(adapted).isNotEqualTo(base);
    ConcurrentLinkedQueue<String> answers = new ConcurrentLinkedQueue<>();
    ChatModel chat = model.chatModel();
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      threads.add(new Thread(() -> {
        for (int k = 0; k < 6; k++) {
          answers.add(chat.chat(QUESTION).aiMessage().text());
        }
      }));
    }
    threads.forEach(Thread::start);
    for (int i = 0; i < 8; i++) {
      model.useAdapter(i % 2 == 0 ? null : adapterFolder);
    }
    for (Thread t : threads) {
      t.join();
    }
    assertThat(answers).hasSize(18);
    Set<String> different = new HashSet<>(answers);
    assertThat(Set.of(base, adapted)).containsAll(different);
    model.useAdapter(null);
    assertThat(text(QUESTION)).isEqualTo(base);
  }
}
