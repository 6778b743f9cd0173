package dev.oribi.serve;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import dev.oribi.io.Json;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;

/**
 * What is written to one caller: an object at once, or bytes one after the other. Each slice of bytes has its own time, so that a
 * caller may be slow but not stand still.
 */
final class Reply {
  /** Bytes that have the time of {@link ServeLimits#stalled} together. */
  private static final int SLICE = 4096;

  private final HttpExchange exchange;
  private final CallerThreads threads;
  private final Duration stalled;
  private OutputStream out;

  Reply(HttpExchange exchange, CallerThreads threads, Duration stalled) {
    this.exchange = exchange;
    this.threads = threads;
    this.stalled = stalled;
  }

  /** Whether the status is written, so that no other can be. */
  boolean begun() {
    return out != null;
  }

  /** The whole of an answer, or its end where it has begun. */
  void json(int status, ObjectNode json) throws IOException {
    byte[] bytes = Json.compact(json).getBytes(StandardCharsets.UTF_8);
    boolean head = exchange.getRequestMethod().equals("HEAD");
    if (!begun()) {
      begin(status, "application/json; charset=utf-8", head ? -1 : bytes.length);
    }
    if (!head) {
      write(bytes);
    }
  }

  /** An event of a stream. */
  void event(ObjectNode event) throws IOException {
    line("data: " + Json.compact(event));
  }

  /** A line of a stream with the empty one that ends it. */
  void line(String line) throws IOException {
    if (!begun()) {
      begin(200, "text/event-stream; charset=utf-8", 0);
    }
    write((line + "\n\n").getBytes(StandardCharsets.UTF_8));
  }

  /** A sign of life: a comment in a stream, white space before an object. */
  void heartbeat(boolean stream) throws IOException {
    if (stream) {
      line(": waiting");
      return;
    }
    if (!begun()) {
      begin(200, "application/json; charset=utf-8", 0);
    }
    write(new byte[] {' '});
  }

  /** @param length as {@link HttpExchange#sendResponseHeaders} takes it: 0 if it is not known, -1 if there is none */
  private void begin(int status, String type, long length) throws IOException {
    exchange.getResponseHeaders().set("Content-Type", type);
    exchange.getResponseHeaders().set("Cache-Control", "no-store");
    threads.within(stalled);
    exchange.sendResponseHeaders(status, length);
    threads.arrived();
    out = exchange.getResponseBody();
  }

  private void write(byte[] bytes) throws IOException {
    for (int at = 0; at < bytes.length; at += SLICE) {
      threads.within(stalled);
      out.write(bytes, at, Math.min(SLICE, bytes.length - at));
      threads.arrived();
    }
    threads.within(stalled);
    out.flush();
    threads.arrived();
  }

  /** Ends the answer: what is missing then was not sent for want of somebody who takes it. */
  void end() {
    threads.within(stalled);
    exchange.close();
  }
}
