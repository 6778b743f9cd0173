package dev.oribi.serve;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.io.Json;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Instant;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Phaser;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * {@code /v1/chat/completions}, {@code /v1/completions}, {@code /v1/models} and {@code /health}, as OpenAI's interface has them, with
 * and without streaming.
 *
 * <p>Bound to the loopback address it answers only callers that address it as this machine, so that a page in a browser cannot
 * reach it under a name of its own; bodies must be declared as JSON, which a page of another origin may not send unasked. There is no
 * password: bound to another address everybody who reaches it can use the model.
 *
 * <p>One thread runs the model ({@link AnswerQueue}); others read from callers and write to them ({@link CallerThreads}), each with
 * an {@link Outbox} in between, so that nobody waits for a caller but that caller.
 */
public final class ChatServer implements AutoCloseable {
  private static final int DEFAULT_TOKENS = 512;

  /** Time for the last words to callers when the server is closed. */
  private static final long LAST_WORDS_MILLIS = 2000;

  private static final Map<String, String> METHODS =
      Map.of("/health", "GET", "/v1/models", "GET", "/v1/chat/completions", "POST", "/v1/completions", "POST");

  static {
    // An event of a stream is a small packet, and the next shall not wait until the caller's machine has confirmed it.
    if (System.getProperty("sun.net.httpserver.nodelay") == null) {
      System.setProperty("sun.net.httpserver.nodelay", "true");
    }
  }

  private final TextModel model;
  private final String name;
  private final ServeLimits limits;
  private final InetAddress host;
  private final HttpServer server;
  private final CallerThreads threads;
  private final AnswerQueue queue;
  private final long begun = Instant.now().getEpochSecond();

  /** Calls under way, and the server itself. */
  private final Phaser calls = new Phaser(1);

  /** With limits that suit a model on one machine. */
  public ChatServer(TextModel model, String name, String host, int port) {
    this(model, name, host, port, ServeLimits.DEFAULT);
  }

  /**
   * Opens the address and begins to answer. The model stays the caller's.
   *
   * @param host such as 127.0.0.1
   * @param port 0: any that is free
   * @param name of the model in requests and answers
   */
  public ChatServer(TextModel model, String name, String host, int port, ServeLimits limits) {
    this.model = model;
    this.name = name;
    this.limits = limits;
    try {
      this.host = InetAddress.getByName(host);
      this.server = HttpServer.create(new InetSocketAddress(this.host, port), 0);
    } catch (IOException | IllegalArgumentException e) {
      throw new OribiException("cannot listen at " + host + ":" + port + ": " + e.getMessage() + "; give another --host or --port", e);
    }
    threads = new CallerThreads(limits.threads(), limits.request());
    queue = new AnswerQueue(model, limits);
    server.setExecutor(threads);
    server.createContext("/", this::handle);
    server.start();
  }

  /** Such as http://127.0.0.1:8080 */
  public String address() {
    String at = host.getHostAddress();
    return "http://" + (at.contains(":") ? "[" + at + "]" : at) + ":" + server.getAddress().getPort();
  }

  private void handle(HttpExchange exchange) {
    Reply reply = new Reply(exchange, threads, limits.stalled());
    calls.register();
    try {
      route(exchange, reply);
    } catch (Refusal e) {
      fail(exchange, reply, e.status(), e.getMessage());
    } catch (IOException | InterruptedException e) {
      // The caller has gone away, or this thread is told to end: there is nobody to answer.
    } catch (RuntimeException e) {
      fail(exchange, reply, 500, e instanceof OribiException ? e.getMessage() : "this is a fault in Oribi: " + e);
    } finally {
      reply.end();
      calls.arriveAndDeregister();
    }
  }

  private void fail(HttpExchange exchange, Reply reply, int status, String message) {
    try {
      if (status == 503) {
        exchange.getResponseHeaders().set("Retry-After", "5");
      }
      reply.json(status, Shape.error(status, message));
    } catch (IOException e) {
      // Nobody is there to be told.
    }
  }

  private void route(HttpExchange exchange, Reply reply) throws IOException, InterruptedException {
    if (host.isLoopbackAddress() && !fromHere(exchange.getRequestHeaders().getFirst("Host"))) {
      throw new Refusal(403, "this server answers this machine alone");
    }
    String path = exchange.getRequestURI().getPath();
    boolean one = ("/v1/models/" + name).equals(path);
    String method = path == null ? null : one ? "GET" : METHODS.get(path);
    if (method == null) {
      throw new Refusal(404, "there is no " + Json.shorten(String.valueOf(path)) + "; there are " + String.join(", ", METHODS.keySet().stream().sorted().toList()));
    }
    String asked = exchange.getRequestMethod();
    if (!asked.equals(method) && !(asked.equals("HEAD") && method.equals("GET"))) {
      exchange.getResponseHeaders().set("Allow", method);
      throw new Refusal(405, path + " takes " + method);
    }
    if (one) {
      reply.json(200, describe(Json.object()));
      return;
    }
    switch (path) {
      case "/health" -> reply.json(200, Json.object().put("status", "ok"));
      case "/v1/models" -> reply.json(200, models());
      default -> complete(exchange, reply, path.equals("/v1/chat/completions"));
    }
  }

  private static boolean fromHere(String host) {
    if (host == null) {
      return false;
    }
    String bare = host.replaceFirst(":\\d+$", "").toLowerCase(Locale.ROOT);
    return bare.equals("localhost") || bare.equals("[::1]") || bare.matches("127\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}");
  }

  private ObjectNode models() {
    ObjectNode list = Json.object().put("object", "list");
    describe(list.putArray("data").addObject());
    return list;
  }

  private ObjectNode describe(ObjectNode model) {
    return model.put("id", name).put("object", "model").put("created", begun).put("owned_by", "oribi");
  }

  private void complete(HttpExchange exchange, Reply reply, boolean chat) throws IOException, InterruptedException {
    byte[] body = body(exchange);
    ChatRequest request;
    int[] prompt;
    try {
      request = ChatRequest.read(Json.parse(body, "the body"), chat, model, model.defaults().maxNewTokens().orElse(DEFAULT_TOKENS));
      prompt = chat ? model.chatPrompt(request.messages(), request.variables()) : model.tokenizer().encode(request.prompt(), true);
      model.requireRoom(prompt);
    } catch (OribiException e) {
      throw new Refusal(400, e.getMessage());
    }
    if (request.model() != null && !request.model().equals(name)) {
      throw new Refusal(404, "there is no model " + Json.shorten(request.model()) + " here; there is " + Json.shorten(name));
    }
    Shape shape = new Shape(chat, (chat ? "chatcmpl-" : "cmpl-") + UUID.randomUUID(), Instant.now().getEpochSecond(), name, request.usage());
    AnswerQueue.Ticket ticket = queue.ask(prompt, request);
    try {
      answer(ticket.outbox(), reply, shape, request);
    } finally {
      ticket.leave();
    }
  }

  private byte[] body(HttpExchange exchange) throws IOException {
    String type = exchange.getRequestHeaders().getFirst("Content-Type");
    if (type == null || !type.toLowerCase(Locale.ROOT).startsWith("application/json")) {
      throw new Refusal(415, "the Content-Type must be application/json");
    }
    InputStream in = exchange.getRequestBody();
    byte[] body = in.readNBytes(limits.bodyBytes() + 1);
    if (body.length > limits.bodyBytes()) {
      in.transferTo(OutputStream.nullOutputStream()); // an answer before the end would be lost on a caller that is still sending
    }
    threads.arrived();
    if (body.length > limits.bodyBytes()) {
      throw new Refusal(413, "the body has more than " + limits.bodyBytes() + " bytes");
    }
    return body;
  }

  private void answer(Outbox outbox, Reply reply, Shape shape, ChatRequest request) throws IOException, InterruptedException {
    boolean first = true;
    while (true) {
      Outbox.Taken taken = outbox.take(limits.heartbeat());
      if (taken != null && taken.failure() != null && !reply.begun()) {
        throw taken.failure();
      }
      if (request.stream() && first) {
        reply.event(shape.piece("", true));
        first = false;
      }
      if (taken == null) {
        reply.heartbeat(request.stream());
      } else if (taken.text() != null) {
        reply.event(shape.piece(taken.text(), false));
      } else {
        last(taken, reply, shape, request);
        return;
      }
    }
  }

  private void last(Outbox.Taken taken, Reply reply, Shape shape, ChatRequest request) throws IOException {
    if (taken.failure() != null) {
      int status = taken.failure() instanceof Refusal r ? r.status() : 500;
      ObjectNode error = Shape.error(status, taken.failure().getMessage());
      if (request.stream()) {
        reply.event(error);
      } else {
        reply.json(status, error);
      }
      return;
    }
    if (!request.stream()) {
      reply.json(200, shape.whole(taken.answer()));
      return;
    }
    reply.event(shape.end(taken.answer()));
    if (request.usage()) {
      reply.event(shape.usage(taken.answer()));
    }
    reply.line("data: [DONE]");
  }

  /** Tells callers that the server stops, cuts off the answer under way, and returns when the model is at rest. */
  @Override
  public void close() {
    queue.close();
    int phase = calls.arriveAndDeregister();
    try {
      calls.awaitAdvanceInterruptibly(phase, LAST_WORDS_MILLIS, TimeUnit.MILLISECONDS);
    } catch (TimeoutException e) {
      // Who has not read it by now does not.
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    server.stop(0);
    threads.shutdownNow();
  }
}
