package dev.oribi.serve;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import dev.oribi.generate.TextModel;
import dev.oribi.io.Json;
import dev.oribi.testing.TestMachine;
import java.io.IOException;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The server with the tiny model, over real sockets. */
class ChatServerTest {
  private static final HttpClient CLIENT = HttpClient.newHttpClient();
  private static final String QUESTION = "{\"messages\": [{\"role\": \"user\", \"content\": \"How much is nine plus two?\"}], \"temperature\": 0";

  private static TextModel model;
  private static ChatServer server;

  @BeforeAll
  static void open() {
    model = TextModel.open(Path.of("../models/tiny/model"), null, TextModel.Storage.PLAIN, TestMachine.open(), 128);
    server = new ChatServer(model, "tiny", "127.0.0.1", 0);
  }

  @AfterAll
  static void close() {
    server.close();
    model.close();
  }

  private static HttpResponse<String> post(String path, String body, String type) throws IOException, InterruptedException {
    return CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + path)).header("Content-Type", type)
        .POST(HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
  }

  private static JsonNode ask(String path, String body) throws IOException, InterruptedException {
    HttpResponse<String> response = post(path, body, "application/json");
    assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
    return Json.parse(response.body(), "answer");
  }

  private static String expected(int tokens) {
    return model.chat(List.of(Map.of("role", "user", "content", "How much is nine plus two?")), model.greedy(tokens), piece -> {});
  }

  @Test
  void answersAChat() throws Exception {
    JsonNode answer = ask("/v1/chat/completions", QUESTION + ", \"max_tokens\": 40}");
    assertThat(answer.at("/choices/0/message/content").asText()).isEqualTo(expected(40)).isNotBlank();
    assertThat(answer.at("/choices/0/finish_reason").asText()).isEqualTo("length");
    assertThat(answer.get("object").asText()).isEqualTo("chat.completion");
    int prompt = answer.at("/usage/prompt_tokens").asInt();
    assertThat(prompt).isEqualTo(11);
    assertThat(answer.at("/usage/total_tokens").asInt()).isEqualTo(prompt + answer.at("/usage/completion_tokens").asInt());
  }

  @Test
  void streamsTheSameText() throws Exception {
    HttpResponse<String> response =
        post("/v1/chat/completions", QUESTION + ", \"max_tokens\": 40, \"stream\": true, \"stream_options\": {\"include_usage\": true}}", "application/json");
    assertThat(response.headers().firstValue("Content-Type")).hasValueSatisfying(t -> assertThat(t).startsWith("text/event-stream"));
    List<String> events = response.body().lines().filter(l -> l.startsWith("data: ")).map(l -> l.substring(6)).toList();
    assertThat(events.get(events.size() - 1)).isEqualTo("[DONE]");
    StringBuilder text = new StringBuilder();
    for (String event : events.subList(0, events.size() - 1)) {
      text.append(Json.parse(event, "event").at("/choices/0/delta/content").asText(""));
    }
    assertThat(text.toString()).isEqualTo(expected(40));
    assertThat(Json.parse(events.get(0), "event").at("/choices/0/delta/role").asText()).isEqualTo("assistant");
    assertThat(Json.parse(events.get(events.size() - 3), "event").at("/choices/0/finish_reason").asText()).isEqualTo("length");
    assertThat(Json.parse(events.get(events.size() - 2), "event").at("/usage/prompt_tokens").asInt()).isEqualTo(11);
  }

  @Test
  void continuesAText() throws Exception {
    JsonNode answer = ask("/v1/completions", "{\"prompt\": \"Once upon a time\", \"max_tokens\": 8, \"temperature\": 0}");
    String text = answer.at("/choices/0/text").asText();
    assertThat(text).isEqualTo(model.complete("Once upon a time", model.greedy(8), piece -> {}));
    assertThat(answer.at("/choices/0/finish_reason").asText()).isEqualTo("length");
    String stop = text.substring(4, 7);
    JsonNode cut = ask("/v1/completions", "{\"prompt\": \"Once upon a time\", \"max_tokens\": 8, \"temperature\": 0, \"stop\": " + Json.compact(com.fasterxml.jackson.databind.node.TextNode.valueOf(stop)) + "}");
    assertThat(cut.at("/choices/0/text").asText()).isEqualTo(text.substring(0, text.indexOf(stop)));
    assertThat(cut.at("/choices/0/finish_reason").asText()).isEqualTo("stop");
  }

  @Test
  void sameSeedSameText() throws Exception {
    String body = "{\"prompt\": \"Once\", \"max_tokens\": 12, \"temperature\": 1.5, \"seed\": 7}";
    assertThat(ask("/v1/completions", body).at("/choices/0/text")).isEqualTo(ask("/v1/completions", body).at("/choices/0/text"));
  }

  @Test
  void tellsWhatIsWrong() throws Exception {
    for (Map.Entry<String, String> wrong : Map.of("{", "not valid JSON", "[]", "a JSON object", "{\"messages\": []}", "messages must be",
        "{\"messages\": [{\"role\": \"user\"}]}", "needs content", QUESTION + ", \"n\": 2}", "n must be 1", QUESTION + ", \"tools\": [{}]}",
        "tools is not supported", QUESTION + ", \"top_p\": 7}", "top_p must be", QUESTION + ", \"stop\": [1]}", "stop must be").entrySet()) {
      HttpResponse<String> response = post("/v1/chat/completions", wrong.getKey(), "application/json");
      assertThat(response.statusCode()).as(wrong.getKey()).isEqualTo(400);
      assertThat(Json.parse(response.body(), "error").at("/error/message").asText()).contains(wrong.getValue());
    }
    assertThat(post("/v1/chat/completions", QUESTION + "}", "text/plain").statusCode()).isEqualTo(415);
    assertThat(post("/v1/nothing", "{}", "application/json").statusCode()).isEqualTo(404);
    ask("/v1/chat/completions", QUESTION + ", \"max_tokens\": 2}"); // and it still answers
  }

  /** A page in a browser reaches this machine under the name of its own server; such a call is refused. */
  @Test
  void answersThisMachineAlone() throws Exception {
    URI at = URI.create(server.address());
    for (Map.Entry<String, String> host : Map.of("evil.example:" + at.getPort(), "403", "localhost:" + at.getPort(), "200", "127.0.0.1", "200").entrySet()) {
      try (Socket socket = new Socket(at.getHost(), at.getPort())) {
        socket.getOutputStream().write(("GET /v1/models HTTP/1.1\r\nHost: " + host.getKey() + "\r\nConnection: close\r\n\r\n").getBytes(StandardCharsets.US_ASCII));
        String answer = new String(socket.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(answer).startsWith("HTTP/1.1 " + host.getValue());
      }
    }
  }
}
