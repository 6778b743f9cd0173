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
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

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

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '\0', value = {
      "\"n\": 2 | n: 2 is not supported", "\"tools\": [{}] | tools: [{}] is not supported", "\"top_p\": 7 | top_p must be",
      "\"temperature\": \"hot\" | temperature must be a number", "\"temperature\": 1e300 | temperature must be a number",
      "\"temperature\": -1 | temperature must not be negative", "\"stop\": [1] | stop must be", "\"stop\": 5 | stop must be",
      "\"stop\": {\"a\": \"b\"} | stop must be", "\"stop\": \"\" | stop must be", "\"max_tokens\": 0 | max_tokens must be at least 1",
      "\"max_tokens\": -3 | max_tokens must be at least 1", "\"max_tokens\": 2.5 | max_tokens must be a whole number",
      "\"max_tokens\": \"9\" | max_tokens must be a whole number", "\"seed\": \"a\" | seed must be a whole number",
      "\"seed\": 1e30 | seed must be a whole number", "\"top_k\": -1 | top_k must not be negative", "\"stream\": \"yes\" | stream must be true or false",
      "\"stream_options\": {\"include_usage\": true} | stream_options are for", "\"stream\": true, \"stream_options\": 5 | stream_options must be",
      "\"stream\": true, \"stream_options\": {\"usage\": true} | no field stream_options.usage", "\"logprobs\": true | logprobs: true is not supported",
      "\"stream\": true, \"stream_options\": {\"include_usage\": 1} | include_usage must be true or false",
      "\"response_format\": {\"type\": \"json_object\"} | response_format", "\"presence_penalty\": 0.5 | presence_penalty: 0.5 is not supported",
      "\"temprature\": 1 | there is no field temprature; there are chat_template_kwargs, max_completion_tokens", "\"model\": 3 | model must be a text",
      "\"chat_template_kwargs\": 5 | chat_template_kwargs must be a JSON object",
      "\"chat_template_kwargs\": {\"messages\": []} | chat_template_kwargs cannot change messages",
      "\"chat_template_kwargs\": {\"a\": 99999999999999999999999} | a",
      "\"top_p\": 0.5, \"top_p\": 0.6 | Duplicate", "\"seed\": 1} {} | not valid JSON", "\"seed\": NaN | not valid JSON"})
  void refusesByName(String field, String message) throws Exception {
    HttpResponse<String> response = post("/v1/chat/completions", QUESTION.replace(", \"temperature\": 0", ", ") + field + "}", "application/json");
    assertThat(response.statusCode()).as(response.body()).isEqualTo(400);
    assertThat(Json.parse(response.body(), "error").at("/error/message").asText()).containsIgnoringCase(message).hasLineCount(1);
    assertThat(Json.parse(response.body(), "error").at("/error/type").asText()).isEqualTo("invalid_request_error");
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', quoteCharacter = '\0', value = {"{ | not valid JSON", "[] | a JSON object", "{\"messages\": []} | messages must be",
      "{\"messages\": 5} | messages must be", "{\"messages\": [5]} | a message needs a role", "{\"messages\": [{\"role\": \"user\"}]} | needs content",
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]} | text alone",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"tool_calls\": [{}]}]} | a message has tool_calls",
      "{\"prompt\": \"Once\"} | there is no field prompt"})
  void refusesBodies(String body, String message) throws Exception {
    HttpResponse<String> response = post("/v1/chat/completions", body, "application/json");
    assertThat(response.statusCode()).as(response.body()).isEqualTo(400);
    assertThat(Json.parse(response.body(), "error").at("/error/message").asText()).contains(message).hasLineCount(1);
  }

  @Test
  void refusesWhatIsNoCall() throws Exception {
    assertThat(post("/v1/chat/completions", "", "application/json").statusCode()).isEqualTo(400);
    assertThat(post("/v1/chat/completions", "[".repeat(100_000), "application/json").statusCode()).isEqualTo(400);
    assertThat(post("/v1/chat/completions", QUESTION + "}", "text/plain").statusCode()).isEqualTo(415);
    assertThat(post("/v1/nothing", "{}", "application/json").statusCode()).isEqualTo(404);
    assertThat(post("/health", "{}", "application/json").statusCode()).isEqualTo(405);
    assertThat(post("/v1/models/tiny", "{}", "application/json").statusCode()).isEqualTo(405);
    HttpResponse<String> other = post("/v1/chat/completions", QUESTION + ", \"model\": \"gpt-5\"}", "application/json");
    assertThat(other.statusCode()).isEqualTo(404);
    assertThat(other.body()).contains("there is no model gpt-5 here; there is tiny");
    String tooLong = "{\"prompt\": \"" + "one two ".repeat(200) + "\"}";
    HttpResponse<String> refused = post("/v1/completions", tooLong, "application/json");
    assertThat(refused.statusCode()).isEqualTo(400);
    assertThat(refused.body()).contains("tokens and the context 128");
    ask("/v1/chat/completions", QUESTION + ", \"max_tokens\": 2}"); // and it still answers
  }

  /** Not a byte of it is UTF-8. */
  @Test
  void refusesBytesThatAreNoText() throws Exception {
    HttpResponse<String> response = CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/completions"))
        .header("Content-Type", "application/json").POST(HttpRequest.BodyPublishers.ofByteArray(new byte[] {(byte) 0xff, (byte) 0xfe, 0, 1})).build(),
        HttpResponse.BodyHandlers.ofString());
    assertThat(response.statusCode()).isEqualTo(400);
    assertThat(response.body()).contains("the body");
  }

  /** What OpenAI's clients send unasked, and the model by its name. */
  @Test
  void letsThroughWhatAsksForNothing() throws Exception {
    JsonNode answer = ask("/v1/chat/completions", QUESTION + ", \"model\": \"tiny\", \"n\": 1, \"user\": \"me\", \"presence_penalty\": 0, \"tools\": [],"
        + " \"tool_choice\": \"none\", \"logprobs\": false, \"response_format\": {\"type\": \"text\"}, \"stop\": null, \"max_completion_tokens\": 3}");
    assertThat(answer.at("/usage/completion_tokens").asInt()).isEqualTo(3);
    assertThat(answer.get("model").asText()).isEqualTo("tiny");
  }

  /** More tokens than a conversation has room for: the answer ends with the room, and the counts are those of its tokens. */
  @Test
  void hugeLimitsAreThoseOfTheModel() throws Exception {
    for (String most : List.of("1000000", "1e18", "99999999999999999999")) {
      JsonNode answer = ask("/v1/completions", "{\"prompt\": \"Once upon a time\", \"temperature\": 0, \"top_k\": 1000000000000, \"max_tokens\": " + most + "}");
      int prompt = answer.at("/usage/prompt_tokens").asInt();
      int given = answer.at("/usage/completion_tokens").asInt();
      String reason = answer.at("/choices/0/finish_reason").asText();
      assertThat(given).isPositive().isLessThanOrEqualTo(128 - prompt);
      assertThat(reason).isEqualTo(given == 128 - prompt ? "length" : "stop");
    }
  }

  /** The list, and the entry by its name, as {@code client.models.retrieve} asks for it. */
  @Test
  void tellsOfItsModel() throws Exception {
    HttpResponse<String> list = CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/models")).build(), HttpResponse.BodyHandlers.ofString());
    HttpResponse<String> one = CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/models/tiny")).build(), HttpResponse.BodyHandlers.ofString());
    assertThat(one.statusCode()).isEqualTo(200);
    assertThat(Json.parse(one.body(), "model")).isEqualTo(Json.parse(list.body(), "list").at("/data/0"));
    assertThat(CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/models/other")).build(), HttpResponse.BodyHandlers.ofString()).statusCode())
        .isEqualTo(404);
  }

  /** A model that thinks first is told not to by a variable of its template; names of speakers are the template's too. */
  @Test
  void variablesReachTheTemplate(@TempDir Path folder) throws Exception {
    try (Stream<Path> files = Files.list(Path.of("../models/tiny/model"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
    Files.writeString(folder.resolve("chat_template.jinja"),
        "{{ messages[0].name }}{% if enable_thinking is defined and enable_thinking is false %}{{ 'a b c d e f ' * 3 }}{% endif %}{{ messages[0].content }}");
    try (TextModel thinking = TextModel.open(folder, null, TextModel.Storage.PLAIN, TestMachine.open(), 128);
        ChatServer other = new ChatServer(thinking, "thinking", "127.0.0.1", 0)) {
      int plain = promptTokens(other, "{\"messages\": [{\"role\": \"user\", \"content\": \"Once\"}], \"max_tokens\": 1}");
      String named = "{\"messages\": [{\"role\": \"user\", \"content\": \"Once\", \"name\": \"a long name of a speaker\"}], \"max_tokens\": 1}";
      assertThat(promptTokens(other, named)).isGreaterThan(plain);
      String off = "{\"messages\": [{\"role\": \"user\", \"content\": \"Once\"}], \"max_tokens\": 1, \"chat_template_kwargs\": {\"enable_thinking\": %s}}";
      assertThat(promptTokens(other, off.formatted("false"))).isGreaterThan(plain);
      assertThat(promptTokens(other, off.formatted("true"))).isEqualTo(plain);
    }
  }

  private static int promptTokens(ChatServer at, String body) throws Exception {
    HttpResponse<String> response = CLIENT.send(HttpRequest.newBuilder(URI.create(at.address() + "/v1/chat/completions")).header("Content-Type", "application/json")
        .POST(HttpRequest.BodyPublishers.ofString(body)).build(), HttpResponse.BodyHandlers.ofString());
    assertThat(response.statusCode()).as(response.body()).isEqualTo(200);
    return Json.parse(response.body(), "answer").at("/usage/prompt_tokens").asInt();
  }

  /** What neither request nor folder says has a bound of its own; what the folder says counts. */
  @Test
  void theFolderSaysHowManyTokens(@TempDir Path folder) throws Exception {
    try (Stream<Path> files = Files.list(Path.of("../models/tiny/model"))) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, folder.resolve(file.getFileName().toString()));
      }
    }
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\": [0, 4], \"max_new_tokens\": 3}");
    try (TextModel short3 = TextModel.open(folder, null, TextModel.Storage.PLAIN, TestMachine.open(), 128);
        ChatServer other = new ChatServer(short3, "short", "127.0.0.1", 0)) {
      HttpResponse<String> response = CLIENT.send(HttpRequest.newBuilder(URI.create(other.address() + "/v1/completions")).header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString("{\"prompt\": \"Once upon a time\"}")).build(), HttpResponse.BodyHandlers.ofString());
      assertThat(Json.parse(response.body(), "answer").at("/usage/completion_tokens").asInt()).isEqualTo(3);
    }
  }

  @Test
  void temperaturesAtTheEdgeGiveText() throws Exception {
    for (String t : List.of("1e-30", "1e-45", "1e30")) {
      assertThat(ask("/v1/completions", "{\"prompt\": \"Once\", \"max_tokens\": 3, \"seed\": 1, \"temperature\": " + t + "}").at("/usage/completion_tokens").asInt())
          .isEqualTo(3);
    }
    String coldest = ask("/v1/completions", "{\"prompt\": \"Once\", \"max_tokens\": 9, \"seed\": 1, \"temperature\": 1e-30}").at("/choices/0/text").asText();
    assertThat(coldest).isEqualTo(model.complete("Once", model.greedy(9), piece -> {}));
  }

  /** At so high a temperature all tokens are alike, those of single bytes too, which are no characters by themselves. */
  @Test
  void charactersThatTokensSplitArriveWhole() throws Exception {
    boolean beyondAscii = false;
    for (int seed = 1; seed <= 6; seed++) {
      String body = "{\"prompt\": \"\u00fc\ud83e\udd8c\", \"max_tokens\": 60, \"temperature\": 1000, \"top_k\": 0, \"top_p\": 1, \"seed\": " + seed;
      String whole = ask("/v1/completions", body + "}").at("/choices/0/text").asText();
      HttpResponse<String> streamed = post("/v1/completions", body + ", \"stream\": true}", "application/json");
      StringBuilder text = new StringBuilder();
      streamed.body().lines().filter(l -> l.startsWith("data: {")).forEach(l -> {
        String piece = Json.parse(l.substring(6), "event").at("/choices/0/text").asText();
        assertThat(piece.isEmpty() || !Character.isHighSurrogate(piece.charAt(piece.length() - 1))).isTrue();
        text.append(piece);
      });
      assertThat(text.toString()).isEqualTo(whole);
      beyondAscii |= whole.chars().anyMatch(c -> c > 127);
    }
    assertThat(beyondAscii).as("bytes beyond ASCII among them").isTrue();
  }

  /** Each stop takes time in proportion to its length, and no more. */
  @Test
  void manyLongStopsCostLittle() throws Exception {
    String stop = "\"" + "a".repeat(1000) + "\"";
    long begin = System.nanoTime();
    ask("/v1/completions", "{\"prompt\": \"aaaa\", \"temperature\": 0, \"max_tokens\": 100, \"stop\": [" + String.join(", ", Collections.nCopies(16, stop)) + "]}");
    assertThat(System.nanoTime() - begin).isLessThan(20_000_000_000L);
    assertThat(post("/v1/completions", "{\"prompt\": \"a\", \"stop\": \"" + "a".repeat(1001) + "\"}", "application/json").statusCode()).isEqualTo(400);
  }

  @Test
  void usageComesLastAndOnlyThen() throws Exception {
    String body = "{\"prompt\": \"Once\", \"max_tokens\": 5, \"temperature\": 0, \"stream\": true";
    List<String> without = post("/v1/completions", body + "}", "application/json").body().lines().filter(l -> l.startsWith("data: {")).toList();
    assertThat(without).noneMatch(l -> l.contains("usage"));
    List<String> with = post("/v1/completions", body + ", \"stream_options\": {\"include_usage\": true}}", "application/json").body().lines()
        .filter(l -> l.startsWith("data: {")).toList();
    assertThat(with).allMatch(l -> l.contains("usage")).filteredOn(l -> !l.contains("\"usage\":null")).hasSize(1);
    JsonNode last = Json.parse(with.get(with.size() - 1).substring(6), "event");
    assertThat(last.at("/usage/completion_tokens").asInt()).isEqualTo(5);
    assertThat(last.get("choices")).isEmpty();
    assertThat(Json.parse(with.get(0).substring(6), "event").get("usage").isNull()).isTrue();
  }

  /** Many at once: each gets the answer that it would get alone. */
  @Test
  void callersTakeTurns() throws Exception {
    String expected = expected(10);
    List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      all.add(CLIENT.sendAsync(HttpRequest.newBuilder(URI.create(server.address() + "/v1/chat/completions")).header("Content-Type", "application/json")
          .POST(HttpRequest.BodyPublishers.ofString(QUESTION + ", \"max_tokens\": 10}")).build(), HttpResponse.BodyHandlers.ofString()));
    }
    for (CompletableFuture<HttpResponse<String>> one : all) {
      assertThat(Json.parse(one.get().body(), "answer").at("/choices/0/message/content").asText()).isEqualTo(expected);
    }
  }

  /** A page of another origin asks before it sends JSON, and gets no leave; what it may send unasked is refused. */
  @Test
  void givesPagesOfOthersNoLeave() throws Exception {
    HttpResponse<String> asked = CLIENT.send(HttpRequest.newBuilder(URI.create(server.address() + "/v1/chat/completions"))
        .header("Origin", "https://evil.example").header("Access-Control-Request-Method", "POST")
        .method("OPTIONS", HttpRequest.BodyPublishers.noBody()).build(), HttpResponse.BodyHandlers.ofString());
    assertThat(asked.statusCode()).isEqualTo(405);
    assertThat(asked.headers().map().keySet()).noneMatch(h -> h.toLowerCase(Locale.ROOT).startsWith("access-control"));
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
