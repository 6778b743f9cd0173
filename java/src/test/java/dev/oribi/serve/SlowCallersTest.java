package dev.oribi.serve;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.generate.TextModel;
import dev.oribi.testing.TestMachine;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Callers that read slowly, write slowly, go away or come in crowds: none holds up another for longer than the limits say. */
@Timeout(120)
class SlowCallersTest {
  private static final HttpClient CLIENT = HttpClient.newHttpClient();
  private static final Duration LONG = Duration.ofSeconds(60);
  private static final Duration SHORT = Duration.ofMillis(400);

  /** Each event names the model: with this name a single one is more than a socket takes, which is 4 MiB on Linux. */
  private static final String LONG_NAME = "x".repeat(5 << 20);

  private static final String STREAM = "{\"prompt\": \"Once upon a time\", \"temperature\": 0, \"max_tokens\": 100, \"stream\": true}";
  private static final String SHORT_ANSWER = "{\"prompt\": \"Once\", \"temperature\": 0, \"max_tokens\": 2}";

  private static TextModel model;

  @BeforeAll
  static void open() {
    model = TextModel.open(Path.of("../models/tiny/model"), null, TextModel.Storage.PLAIN, TestMachine.open(), 160);
  }

  @AfterAll
  static void close() {
    model.close();
  }

  /** Fit to be printed when a test fails. */
  private static String shortened(String answer) {
    return answer.replaceAll("xxx+", "xxx");
  }

  private static ChatServer server(String name, ServeLimits limits) {
    return new ChatServer(model, name, "127.0.0.1", 0, limits);
  }

  private static ServeLimits limits(int waiting, int buffered, Duration full, Duration stalled) {
    return new ServeLimits(1 << 16, LONG, waiting, buffered, full, stalled, Duration.ofMillis(100));
  }

  private static HttpResponse<String> ask(ChatServer server, String body) throws Exception {
    return CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/completions")).header("Content-Type", "application/json")
        .timeout(Duration.ofSeconds(50)).POST(HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
  }

  /** Times of a minute everywhere: that the second caller is answered is due to the buffer alone. */
  @Test
  void aReaderWhoDoesNotReadHoldsNobodyUp() throws Exception {
    try (ChatServer server = server(LONG_NAME, limits(4, 1 << 20, LONG, LONG));
        RawCaller slow = new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM))) {
      assertThat(slow.readUntil("data: ")).startsWith("HTTP/1.1 200");
      long begin = System.nanoTime();
      for (int i = 0; i < 3; i++) {
        assertThat(ask(server, SHORT_ANSWER).statusCode()).isEqualTo(200);
      }
      assertThat(System.nanoTime() - begin).isLessThan(LONG.toNanos() / 2);
      String late = slow.readAll();
      assertThat(shortened(late)).endsWith("data: [DONE]\n\n\r\n0\r\n\r\n").contains("\"finish_reason\":\"length\"");
    }
  }

  /** Whether a thread of a server writes to its caller. */
  private static boolean isWriting() {
    return Thread.getAllStackTraces().values().stream().flatMap(Arrays::stream).anyMatch(f -> f.getClassName().equals(Reply.class.getName()));
  }

  @Test
  void aReaderWhoNeverReadsLosesTheConnection() throws Exception {
    try (ChatServer server = server(LONG_NAME, limits(4, 1 << 20, LONG, SHORT));
        RawCaller slow = new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM))) {
      assertThat(slow.readUntil("data: ")).startsWith("HTTP/1.1 200");
      assertThat(ask(server, SHORT_ANSWER).statusCode()).isEqualTo(200);
      long until = System.nanoTime() + LONG.toNanos();
      while (isWriting()) {
        assertThat(System.nanoTime()).as("the time by which the connection has ended").isLessThan(until);
        Thread.sleep(20);
      }
      assertThat(shortened(slow.readAll())).doesNotContain("[DONE]");
    }
  }

  /** Ten characters fit into the buffer: the answer ends long before its hundredth token, and says why. */
  @Test
  void aFullBufferEndsTheAnswer() throws Exception {
    try (ChatServer server = server(LONG_NAME, limits(4, 10, SHORT, LONG));
        RawCaller slow = new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM))) {
      assertThat(slow.readUntil("data: ")).startsWith("HTTP/1.1 200");
      long begin = System.nanoTime();
      assertThat(ask(server, SHORT_ANSWER).statusCode()).isEqualTo(200);
      assertThat(System.nanoTime() - begin).isLessThan(LONG.toNanos() / 2);
      assertThat(shortened(slow.readAll())).contains("read too slowly").doesNotContain("[DONE]").doesNotContain("finish_reason\":\"length");
    }
  }

  /** One is answered, one waits, and the third is told to come again; those who went away leave their places. */
  @Test
  void whoFindsTheQueueFullIsToldSo() throws Exception {
    try (ChatServer server = server(LONG_NAME, limits(1, 10, LONG, LONG))) {
      List<RawCaller> callers = new ArrayList<>();
      callers.add(new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM)));
      assertThat(callers.get(0).readUntil("data: ")).startsWith("HTTP/1.1 200");
      callers.add(new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM)));
      assertThat(callers.get(1).readUntil(": waiting")).contains("data: ");
      HttpResponse<String> third = ask(server, SHORT_ANSWER);
      assertThat(third.statusCode()).isEqualTo(503);
      assertThat(third.headers().firstValue("Retry-After")).isPresent();
      assertThat(third.body()).contains("too many requests wait").contains("server_error");
      for (RawCaller caller : callers) {
        caller.close();
      }
      long until = System.nanoTime() + LONG.toNanos() / 2;
      while (ask(server, SHORT_ANSWER).statusCode() != 200) {
        assertThat(System.nanoTime()).isLessThan(until);
        Thread.sleep(50);
      }
    }
  }

  @Test
  void aRequestThatDoesNotEndIsCutOff() throws Exception {
    ServeLimits limits = new ServeLimits(1 << 16, SHORT, 4, 1000, LONG, LONG, LONG);
    try (ChatServer server = server("tiny", limits)) {
      for (String part : List.of("POST /v1/comple", RawCaller.request("/v1/completions", SHORT_ANSWER).replaceFirst("Once.*", ""))) {
        try (RawCaller slow = new RawCaller(server.address()).send(part)) {
          long begin = System.nanoTime();
          assertThat(shortened(slow.readAll())).doesNotContain("200 OK");
          assertThat(System.nanoTime() - begin).isLessThan(LONG.toNanos() / 4);
        }
      }
      assertThat(ask(server, SHORT_ANSWER).statusCode()).isEqualTo(200);
    }
  }

  @Test
  void aBodyThatIsTooLongIsRefused() throws Exception {
    try (ChatServer server = server("tiny", limits(4, 1000, LONG, LONG))) {
      HttpResponse<String> response = ask(server, "{\"prompt\": \"" + "a".repeat(1 << 20) + "\"}");
      assertThat(response.statusCode()).isEqualTo(413);
      assertThat(response.body()).contains("more than 65536 bytes");
    }
  }

  /** A server that is closed says so to those it answers and to those that wait, and leaves the model to its owner. */
  @Test
  void closingEndsTheAnswersUnderWay() throws Exception {
    ChatServer server = server(LONG_NAME, limits(4, 10, LONG, LONG));
    try (RawCaller streaming = new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM))) {
      assertThat(streaming.readUntil("data: ")).startsWith("HTTP/1.1 200");
      try (RawCaller waiting = new RawCaller(server.address()).send(RawCaller.request("/v1/completions", STREAM))) {
        waiting.readUntil(": waiting");
        Thread closing = new Thread(server::close);
        closing.start();
        assertThat(shortened(waiting.readAll())).contains("the server is stopping").doesNotContain("[DONE]");
        assertThat(shortened(streaming.readAll())).doesNotContain("[DONE]");
        closing.join(20_000);
        assertThat(closing.isAlive()).isFalse();
      }
    }
    assertThat(model.complete("Once", model.greedy(2), piece -> {})).isNotEmpty();
  }
}
