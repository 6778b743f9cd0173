package dev.oribi.langchain4j;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.langchain4j.agent.tool.ToolSpecification;
import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ResponseFormat;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.PartialResponse;
import dev.langchain4j.model.chat.response.PartialResponseContext;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.chat.response.StreamingHandle;
import dev.langchain4j.model.output.FinishReason;
import dev.oribi.generate.TextModel;
import dev.oribi.model.Machine;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
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

  /** What a handler was told, in order, and by which threads. */
  private static class Recorder implements StreamingChatResponseHandler {
    final List<String> pieces = new CopyOnWriteArrayList<>();
    final List<Throwable> errors = new CopyOnWriteArrayList<>();
    final Set<Thread> threads = ConcurrentHashMap.newKeySet();
    final CompletableFuture<ChatResponse> whole = new CompletableFuture<>();

    @Override
    public void onPartialResponse(String piece) {
      threads.add(Thread.currentThread());
      pieces.add(piece);
    }

    @Override
    public void onCompleteResponse(ChatResponse response) {
      threads.add(Thread.currentThread());
      whole.complete(response);
    }

    @Override
    public void onError(Throwable e) {
      errors.add(e);
    }

    ChatResponse answer() throws Exception {
      return whole.get(60, TimeUnit.SECONDS);
    }
  }

  @Test
  void streamsTheSameTextFromAThreadOfItsOwn() throws Exception {
    Recorder handler = new Recorder();
    model.streamingChatModel().chat(QUESTION, handler);
    assertThat(handler.answer().aiMessage().text()).isEqualTo(String.join("", handler.pieces)).isEqualTo(text(QUESTION));
    assertThat(handler.pieces).hasSizeGreaterThan(1);
    assertThat(handler.threads).hasSize(1).doesNotContain(Thread.currentThread());
    assertThat(handler.errors).isEmpty();
  }

  /** It waits in its first piece until others have asked the model, changed its adapter and been answered. */
  @Test
  void aSlowHandlerHoldsNobodyUp() throws Exception {
    String expected = text(QUESTION);
    CountDownLatch othersAreDone = new CountDownLatch(1);
    Recorder slow = new Recorder() {
      @Override
      public void onPartialResponse(String piece) {
        try {
          assertThat(othersAreDone.await(60, TimeUnit.SECONDS)).isTrue();
        } catch (InterruptedException e) {
          throw new IllegalStateException(e);
        }
        super.onPartialResponse(piece);
      }
    };
    model.streamingChatModel().chat(QUESTION, slow);
    model.useAdapter(adapterFolder);
    assertThat(text(QUESTION)).isNotEqualTo(expected);
    model.useAdapter(null);
    othersAreDone.countDown();
    assertThat(slow.answer().aiMessage().text()).as("by the model as it was when it was asked").isEqualTo(expected);
    assertThat(slow.errors).isEmpty();
  }

  /** A handler may use the model that calls it, and take its adapter away. */
  @Test
  void aHandlerMayAskTheModel() throws Exception {
    String expected = text(QUESTION);
    List<String> inner = new CopyOnWriteArrayList<>();
    Recorder handler = new Recorder() {
      @Override
      public void onPartialResponse(String piece) {
        if (pieces.isEmpty()) {
          model.useAdapter(adapterFolder);
          inner.add(text(QUESTION));
          model.useAdapter(null);
        }
        super.onPartialResponse(piece);
      }
    };
    model.streamingChatModel().chat(QUESTION, handler);
    assertThat(handler.answer().aiMessage().text()).isEqualTo(expected);
    assertThat(inner).hasSize(1).doesNotContain(expected);
  }

  @Test
  void aHandlerEndsTheAnswerByItsHandle() throws Exception {
    CompletableFuture<StreamingHandle> cancelled = new CompletableFuture<>();
    Recorder handler = new Recorder() {
      @Override
      public void onPartialResponse(PartialResponse piece, PartialResponseContext context) {
        onPartialResponse(piece.text());
        assertThat(context.streamingHandle().isCancelled()).isFalse();
        context.streamingHandle().cancel();
        cancelled.complete(context.streamingHandle());
      }
    };
    model.streamingChatModel().chat(QUESTION, handler);
    assertThat(cancelled.get(60, TimeUnit.SECONDS).isCancelled()).isTrue();
    handler.threads.iterator().next().join(60_000);
    assertThat(text(QUESTION)).startsWith(handler.pieces.get(0));
    assertThat(handler.pieces).hasSize(1);
    assertThat(handler.whole).isNotDone();
    assertThat(handler.errors).isEmpty();
  }

  @Test
  void whatAHandlerThrowsItIsTold() throws Exception {
    IllegalStateException fault = new IllegalStateException("a fault of the handler");
    Recorder handler = new Recorder() {
      @Override
      public void onPartialResponse(String piece) {
        super.onPartialResponse(piece);
        throw fault;
      }

      @Override
      public void onCompleteResponse(ChatResponse response) {
        super.onCompleteResponse(response);
        throw fault;
      }

      @Override
      public void onError(Throwable e) {
        super.onError(e);
        throw new IllegalStateException("and another");
      }
    };
    model.streamingChatModel().chat(QUESTION, handler);
    assertThat(handler.answer().aiMessage().text()).isEqualTo(text(QUESTION));
    handler.threads.iterator().next().join(60_000);
    assertThat(handler.errors).hasSize(handler.pieces.size() + 1).containsOnly(fault);
  }

  @Test
  void whoIsInterruptedWantsNoAnswer() throws Exception {
    Thread.currentThread().interrupt();
    assertThatThrownBy(() -> text(QUESTION)).isInstanceOf(LangChain4jException.class).hasMessageContaining("interrupted");
    assertThat(Thread.interrupted()).isTrue();
    assertThat(text(QUESTION)).isNotEmpty();
  }

  @Test
  void closingWaitsForWhatWasAskedBefore() throws Exception {
    OribiModel other = OribiModel.of(TextModel.open(TINY, null, TextModel.Storage.PLAIN, Machine.cpu(1), 128));
    Recorder before = new Recorder();
    other.streamingChatModel().chat(QUESTION, before);
    other.close();
    other.close();
    Recorder after = new Recorder();
    other.streamingChatModel().chat(QUESTION, after);
    assertThat(before.answer().aiMessage().text()).isEqualTo(text(QUESTION));
    for (int i = 0; i < 6000 && after.errors.isEmpty(); i++) {
      Thread.sleep(10);
    }
    assertThat(after.errors).singleElement().isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> other.useAdapter(null)).isInstanceOf(IllegalStateException.class);
  }

  @Test
  void whatCannotBeHonouredIsRefused() {
    ChatRequest tools = question().toolSpecifications(ToolSpecification.builder().name("f").build()).build();
    assertThatThrownBy(() -> model.chatModel().chat(tools)).isInstanceOf(UnsupportedFeatureException.class);
    assertThatThrownBy(() -> text(question().modelName("gpt-5").build())).isInstanceOf(UnsupportedFeatureException.class);
    assertThatThrownBy(() -> text(question().responseFormat(ResponseFormat.JSON).build())).isInstanceOf(UnsupportedFeatureException.class);
    assertThat(text(question().responseFormat(ResponseFormat.TEXT).build())).isEqualTo(text(QUESTION));
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
