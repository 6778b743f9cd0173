package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.serve.ChatServer;
import dev.oribi.train.StopSignal;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code oribi serve}: a model behind an address. */
@Command(
    name = "serve",
    description = "Answers programs that speak OpenAI's interface: /v1/chat/completions, /v1/completions and /v1/models, with"
        + " streaming. Ctrl-C ends it.",
    footer = {
      "",
      "On a CPU, products with the blocks of a GGUF file round their input to 8 bits, as llama.cpp does.",
      "",
      "Example:",
      "  oribi serve --model model.gguf --port 8080",
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\",
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}]}'"
    },
    sortOptions = false)
final class ServeCommand implements Callable<Integer> {
  private static final int LAST_PORT = 65_535;

  /** Callers hear that the server stops, and the step under way ends; a long prompt may take longer than a user waits. */
  private static final Duration PATIENCE = Duration.ofSeconds(5);

  @Mixin private ModelOptions model;

  @Option(names = "--host", paramLabel = "ADDRESS", description = "Where to listen. Any other than this machine's own lets everybody who reaches it in: there is no password.")
  private String host = "127.0.0.1";

  @Option(names = "--port", paramLabel = "N", description = "0: any that is free.")
  private int port = 8080;

  @Option(names = "--name", paramLabel = "TEXT", description = "What requests call the model. If not given, the name of its file or folder.")
  private String name;

  @Override
  public Integer call() throws InterruptedException {
    if (port < 0 || port > LAST_PORT) {
      throw new OribiException("--port must be from 0 to " + LAST_PORT + ", and is " + port);
    }
    CountDownLatch stop = new CountDownLatch(1);
    try (StopSignal signal = new StopSignal(stop::countDown, PATIENCE)) {
      try (TextModel text = model.open(); ChatServer server = new ChatServer(text, name(), host, port)) {
        System.out.println("Listening at " + server.address() + " for the model " + name() + "; Ctrl-C ends it.");
        stop.await();
      }
    }
    return 0;
  }

  private String name() {
    if (name != null || model.model == null) {
      return name != null ? name : "oribi-tiny";
    }
    Path file = model.model.toAbsolutePath().normalize().getFileName();
    return file == null ? "model" : file.toString();
  }
}
