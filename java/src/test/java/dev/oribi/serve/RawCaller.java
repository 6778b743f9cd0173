package dev.oribi.serve;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;

/** A caller that reads and writes when it likes. */
final class RawCaller implements AutoCloseable {
  private final Socket socket = new Socket();
  private final InputStream in;

  RawCaller(String address) throws IOException {
    URI at = URI.create(address);
    socket.setReceiveBufferSize(2048); // the system shall not read for a caller that does not
    socket.setSoTimeout(30_000);
    socket.connect(new InetSocketAddress(at.getHost(), at.getPort()));
    in = new BufferedInputStream(socket.getInputStream());
  }

  static String request(String path, String body) {
    return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        + body.getBytes(StandardCharsets.UTF_8).length + "\r\nConnection: close\r\n\r\n" + body;
  }

  RawCaller send(String text) throws IOException {
    socket.getOutputStream().write(text.getBytes(StandardCharsets.UTF_8));
    socket.getOutputStream().flush();
    return this;
  }

  /** Reads until a text has come, or the end. */
  String readUntil(String text) throws IOException {
    ByteArrayOutputStream seen = new ByteArrayOutputStream();
    try {
      for (int c = in.read(); c >= 0; c = in.read()) {
        seen.write(c);
        if (c == text.charAt(text.length() - 1) && seen.toString(StandardCharsets.UTF_8).endsWith(text)) {
          break;
        }
      }
    } catch (java.net.SocketException e) {
      seen.writeBytes("[reset]".getBytes(StandardCharsets.US_ASCII));
    }
    return seen.toString(StandardCharsets.UTF_8);
  }

  String readAll() throws IOException {
    ByteArrayOutputStream seen = new ByteArrayOutputStream();
    byte[] bytes = new byte[1 << 16];
    try {
      for (int n = in.read(bytes); n >= 0; n = in.read(bytes)) {
        seen.write(bytes, 0, n);
      }
    } catch (java.net.SocketException e) {
      seen.writeBytes("[reset]".getBytes(StandardCharsets.US_ASCII));
    }
    return seen.toString(StandardCharsets.UTF_8);
  }

  @Override
  public void close() throws IOException {
    socket.close();
  }
}
