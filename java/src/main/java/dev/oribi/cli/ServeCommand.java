package dev.oribi.cli;

import dev.oribi.generate.TextModel;
import dev.oribi.serve.ChatServer;
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
      "Example:",
      "  oribi serve --model model.gguf --port 8080",
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\",
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}]}'"
    },
    sortOptions = false)
final class ServeCommand implements Callable<Integer> {
  @Mixin private ModelOptions model;

  @Option(names = "--host", paramLabel = "ADDRESS", description = "Where to listen. Any other than this machine's own lets everybody who reaches it in: there is no password.")
  private String host = "127.0.0.1";

  @Option(names = "--port", paramLabel = "N", description = "0: any that is free.")
  private int port = 8080;

  @Override
  public Integer call() throws InterruptedException {
    try (TextModel text = model.open(); ChatServer server = new ChatServer(text, model.path().getFileName().toString(), host, port)) {
      System.out.println("Listening at " + server.address());
      new CountDownLatch(1).await();
    }
    return 0;
  }
}
