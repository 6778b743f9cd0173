package dev.oribi.serve;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.io.Json;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Locale;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.locks.ReentrantLock;

/**
 * {@code /v1/chat/completions}, {@code /v1/completions}, {@code /v1/models} and {@code /health}, as OpenAI's interface has them, with
 * and without streaming.
 *
 * <p>Bound to the loopback address it answers only callers that address it as this machine, so that a page in a browser cannot
 * reach it under a name of its own; bodies must be declared as JSON, which a page of another origin may not send unasked. There is no
 * password: bound to another address everybody who reaches it can use the model.
 */
public final class ChatServer implements AutoCloseable {
  private static final int MAX_BODY = 8 << 20;

  /** Callers that wait at once; each holds a thread and no more. */
  private static final int THREADS = 32;

  private static final int DEFAULT_TOKENS = 512;

  private final TextModel model;
  private final String name;
  private final boolean loopback;
  private final HttpServer server;
  private final ExecutorService threads = Executors.newFixedThreadPool(THREADS);

  /** A model computes one answer at a time; who comes first is served first. */
  private final ReentrantLock turn = new ReentrantLock(true);

  /**
   * Opens the address and begins to answer. The model stays the caller's.
   *
   * @param host such as 127.0.0.1
   * @param port 0: any that is free
   * @param name of the model in answers
   */
  public ChatServer(TextModel model, String name, String host, int port) {
    this.model = model;
    this.name = name;
    try {
      InetAddress address = InetAddress.getByName(host);
      this.loopback = address.isLoopbackAddress();
      this.server = HttpServer.create(new InetSocketAddress(address, port), 0);
    } catch (IOException e) {
      throw new OribiException("cannot listen at " + host + ":" + port + ": " + e.getMessage() + "; give another --host or --port", e);
    }
    server.setExecutor(threads);
    server.createContext("/", this::handle);
    server.start();
  }

  /** Such as http://127.0.0.1:8080 */
  public String address() {
    InetSocketAddress at = server.getAddress();
    String host = at.getAddress().getHostAddress();
    return "http://" + (host.contains(":") ? "[" + host + "]" : host) + ":" + at.getPort();
  }

  private void handle(HttpExchange exchange) throws IOException {
    try (exchange) {
      String call = exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath();
      if (loopback && !fromHere(exchange.getRequestHeaders().getFirst("Host"))) {
        error(exchange, 403, "this server answers this machine alone");
        return;
      }
      switch (call) {
        case "GET /health" -> send(exchange, 200, Json.object().put("status", "ok"));
        case "GET /v1/models" -> models(exchange);
        case "POST /v1/chat/completions" -> complete(exchange, true);
        case "POST /v1/completions" -> complete(exchange, false);
        default -> error(exchange, 404, "there is no " + call);
      }
    }
  }

  private static boolean fromHere(String host) {
    if (host == null) {
      return false;
    }
    String bare = host.replaceFirst(":\\d+$", "").toLowerCase(Locale.ROOT);
    return bare.equals("localhost") || bare.equals("[::1]") || bare.matches("127\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}");
  }

  private void models(HttpExchange exchange) throws IOException {
    ObjectNode list = Json.object().put("object", "list");
    list.putArray("data").addObject().put("id", name).put("object", "model").put("owned_by", "oribi");
    send(exchange, 200, list);
  }

  private void complete(HttpExchange exchange, boolean chat) throws IOException {
    String type = exchange.getRequestHeaders().getFirst("Content-Type");
    if (type == null || !type.toLowerCase(Locale.ROOT).startsWith("application/json")) {
      error(exchange, 415, "the Content-Type must be application/json");
      return;
    }
    byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY + 1);
    if (body.length > MAX_BODY) {
      error(exchange, 413, "the body has more than " + MAX_BODY + " bytes");
      return;
    }
    turn.lock();
    try {
      ChatRequest request = ChatRequest.read(Json.parse(body, "the body"), chat, model, DEFAULT_TOKENS);
      int[] prompt = chat ? model.chatPrompt(request.messages()) : model.tokenizer().encode(request.prompt(), true);
      answer(exchange, request, new Shape(chat, (chat ? "chatcmpl-" : "cmpl-") + UUID.randomUUID(), Instant.now().getEpochSecond(), name), prompt);
    } catch (OribiException e) {
      error(exchange, 400, e.getMessage());
    } finally {
      turn.unlock();
    }
  }

  private void answer(HttpExchange exchange, ChatRequest request, Shape shape, int[] prompt) throws IOException {
    if (!request.stream()) {
      TextModel.Answer answer = model.answer(prompt, request.options(), request.stops(), piece -> true);
      send(exchange, 200, shape.whole(answer));
      return;
    }
    Stream stream = new Stream(exchange);
    try {
      TextModel.Answer answer = model.answer(prompt, request.options(), request.stops(), piece -> stream.send(shape.piece(piece, stream.first())));
      stream.send(shape.end(answer));
      if (request.usage()) {
        stream.send(shape.usage(answer));
      }
      stream.line("[DONE]");
    } catch (OribiException e) {
      if (stream.begun()) {
        stream.send(Shape.error(e.getMessage()));
      } else {
        throw e;
      }
    }
  }

  /** Server-sent events; a caller that has gone away ends them. */
  private static final class Stream {
    private final HttpExchange exchange;
    private OutputStream out;

    Stream(HttpExchange exchange) {
      this.exchange = exchange;
    }

    boolean begun() {
      return out != null;
    }

    boolean first() {
      return out == null;
    }

    boolean send(ObjectNode event) {
      return line(Json.compact(event));
    }

    boolean line(String data) {
      try {
        if (out == null) {
          exchange.getResponseHeaders().set("Content-Type", "text/event-stream; charset=utf-8");
          exchange.getResponseHeaders().set("Cache-Control", "no-store");
          exchange.sendResponseHeaders(200, 0);
          out = exchange.getResponseBody();
        }
        out.write(("data: " + data + "\n\n").getBytes(StandardCharsets.UTF_8));
        out.flush();
        return true;
      } catch (IOException e) {
        return false;
      }
    }
  }

  private static void error(HttpExchange exchange, int status, String message) throws IOException {
    send(exchange, status, Shape.error(message));
  }

  private static void send(HttpExchange exchange, int status, ObjectNode json) throws IOException {
    byte[] bytes = Json.compact(json).getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json; charset=utf-8");
    exchange.sendResponseHeaders(status, bytes.length);
    exchange.getResponseBody().write(bytes);
  }

  /** Stops answering; an answer under way is cut off. */
  @Override
  public void close() {
    server.stop(0);
    threads.shutdownNow();
  }
}
