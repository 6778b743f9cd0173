package dev.oribi.langchain4j;

import dev.langchain4j.data.message.AiMessage;
import dev.langchain4j.data.message.ChatMessage;
import dev.langchain4j.data.message.SystemMessage;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.exception.LangChain4jException;
import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.ChatModel;
import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.request.ChatRequest;
import dev.langchain4j.model.chat.request.ResponseFormatType;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.output.FinishReason;
import dev.langchain4j.model.output.TokenUsage;
import dev.oribi.generate.Generator;
import dev.oribi.generate.TextModel;
import dev.oribi.model.config.GenerationConfig;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Predicate;
import java.util.function.Supplier;
import java.util.stream.Collectors;

/**
 * A loaded model that answers chats, with an adapter that can be changed while it runs.
 *
 * <p>Many threads may share it: answers and changes of the adapter are done one after the other by a thread of their own, in the order
 * in which they were asked for, so that nobody's code runs in the middle of another's answer. An answer is computed with one adapter
 * from its first token to its last. What a request does not say (temperature and so on) is as the model's generation_config.json says;
 * tools and formats of answers are refused, because no model here is told of them.
 */
public final class OribiModel implements AutoCloseable {
  private static final int DEFAULT_TOKENS = 512;

  private final TextModel model;
  private final ThreadPoolExecutor turn = new ThreadPoolExecutor(1, 1, 0, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
    Thread made = new Thread(task, "oribi-model");
    made.setDaemon(true);
    return made;
  });
  private boolean closed; // read and written by that thread

  private OribiModel(TextModel model) {
    this.model = model;
  }

  /**
   * Loads a model on a GPU if there is one, else on the CPU.
   *
   * @param model folder in Hugging Face's layout, or a GGUF file
   * @param adapter folder of a PEFT adapter, or null
   * @param context most tokens of a conversation with its answer
   */
  public static OribiModel open(Path model, Path adapter, int context) {
    return new OribiModel(TextModel.open(model, adapter, 0, context));
  }

  /** Around a model that is open; it is closed with this. */
  public static OribiModel of(TextModel model) {
    return new OribiModel(model);
  }

  public ChatModel chatModel() {
    return new OribiChatModel(this);
  }

  public StreamingChatModel streamingChatModel() {
    return new OribiStreamingChatModel(this);
  }

  /**
   * Puts another adapter on the base model, or none, once the answers that came before are done.
   *
   * @param adapter folder of a PEFT adapter, or null
   */
  public void useAdapter(Path adapter) {
    await(inTurn(() -> {
      model.useAdapter(adapter);
      return null;
    }));
  }

  /** The adapter that the next answer is computed with; empty: the base model. */
  public Optional<Path> adapter() {
    return await(inTurn(model::adapter));
  }

  /** Asks and waits; a thread that is interrupted meanwhile wants no answer. */
  ChatResponse answer(ChatRequest request) {
    AtomicBoolean wanted = new AtomicBoolean(true);
    CompletableFuture<ChatResponse> answer = ask(request, piece -> wanted.get());
    try {
      answer.get();
    } catch (InterruptedException e) {
      wanted.set(false);
      Thread.currentThread().interrupt();
      throw new LangChain4jException("interrupted while an answer was computed", e);
    } catch (ExecutionException e) {
      // Thrown below, as it is.
    }
    return await(answer);
  }

  /**
   * Asks for an answer, which comes when those before it are done.
   *
   * @param onText sees each piece, and empty ones meanwhile, on the model's thread; false: the answer is not wanted any more
   */
  CompletableFuture<ChatResponse> ask(ChatRequest request, Predicate<String> onText) {
    try {
      refuse(request);
      List<Map<String, Object>> messages = messages(request.messages());
      return inTurn(() -> compute(messages, request, onText));
    } catch (RuntimeException e) {
      return CompletableFuture.failedFuture(e);
    }
  }

  private ChatResponse compute(List<Map<String, Object>> messages, ChatRequest request, Predicate<String> onText) {
    if (!onText.test("")) {
      throw new CancellationException("the answer is not wanted any more");
    }
    TextModel.Answer answer = model.answer(model.chatPrompt(messages), options(request),
        request.stopSequences() == null ? List.of() : request.stopSequences(), onText);
    return ChatResponse.builder().aiMessage(AiMessage.from(answer.text()))
        .tokenUsage(new TokenUsage(answer.promptTokens(), answer.newTokens())).finishReason(reason(answer.end())).build();
  }

  private <T> CompletableFuture<T> inTurn(Supplier<T> work) {
    try {
      return CompletableFuture.supplyAsync(() -> {
        requireOpen();
        return work.get();
      }, turn);
    } catch (RejectedExecutionException e) {
      throw new IllegalStateException("the model is closed", e);
    }
  }

  private void requireOpen() {
    if (closed) {
      throw new IllegalStateException("the model is closed");
    }
  }

  private static <T> T await(CompletableFuture<T> work) {
    try {
      return work.join();
    } catch (CompletionException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      if (e.getCause() instanceof Error cause) {
        throw cause;
      }
      throw e;
    }
  }

  private static FinishReason reason(TextModel.End end) {
    return switch (end) {
      case STOP -> FinishReason.STOP;
      case LENGTH -> FinishReason.LENGTH;
      case CANCELLED -> FinishReason.OTHER;
    };
  }

  private static void refuse(ChatRequest request) {
    if (request.modelName() != null) {
      throw new UnsupportedFeatureException("modelName is not supported: there is one model");
    }
    if (request.toolSpecifications() != null && !request.toolSpecifications().isEmpty()) {
      throw new UnsupportedFeatureException("tools are not supported");
    }
    if (request.responseFormat() != null && request.responseFormat().type() != ResponseFormatType.TEXT) {
      throw new UnsupportedFeatureException("formats of answers are not supported");
    }
    if (request.frequencyPenalty() != null || request.presencePenalty() != null) {
      throw new UnsupportedFeatureException("frequencyPenalty and presencePenalty are not supported");
    }
  }

  private static List<Map<String, Object>> messages(List<ChatMessage> messages) {
    List<Map<String, Object>> all = new ArrayList<>();
    for (ChatMessage m : messages) {
      all.add(switch (m.type()) {
        case SYSTEM -> message("system", ((SystemMessage) m).text());
        case USER -> message("user", text((UserMessage) m));
        case AI -> message("assistant", text((AiMessage) m));
        default -> throw new UnsupportedFeatureException("messages of type " + m.type() + " are not supported");
      });
    }
    return all;
  }

  private static Map<String, Object> message(String role, String content) {
    return Map.of("role", role, "content", content == null ? "" : content);
  }

  private static String text(AiMessage message) {
    if (message.hasToolExecutionRequests()) {
      throw new UnsupportedFeatureException("tools are not supported");
    }
    return message.text();
  }

  private static String text(UserMessage message) {
    return message.contents().stream().map(c -> {
      if (c instanceof TextContent text) {
        return text.text();
      }
      throw new UnsupportedFeatureException("content of type " + c.type() + " is not supported");
    }).collect(Collectors.joining("\n"));
  }

  private Generator.Options options(ChatRequest r) {
    GenerationConfig d = model.defaults();
    double temperature = r.temperature() != null ? r.temperature() : d.doSample() ? d.temperature() : 0;
    return new Generator.Options(r.maxOutputTokens() != null ? r.maxOutputTokens() : d.maxNewTokens().orElse(DEFAULT_TOKENS), (float) temperature,
        r.topK() != null ? r.topK() : d.topK(), (float) (r.topP() != null ? r.topP() : d.topP()), (float) d.minP(),
        (float) d.repetitionPenalty(), ThreadLocalRandom.current().nextLong(), model.stopIds());
  }

  /** Waits for the answers that were asked for before. */
  @Override
  public void close() {
    synchronized (turn) {
      if (!turn.isShutdown()) {
        turn.execute(() -> {
          closed = true;
          model.close();
        });
        turn.shutdown();
      }
    }
    boolean interrupted = false;
    while (!turn.isTerminated()) {
      try {
        turn.awaitTermination(1, TimeUnit.DAYS);
      } catch (InterruptedException e) {
        interrupted = true; // the memory must be free when this returns
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
