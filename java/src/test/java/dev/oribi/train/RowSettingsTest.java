package dev.oribi.train;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RowSettingsTest {
  @TempDir Path folder;

  private Path template(String name) throws IOException {
    Path file = folder.resolve(name).resolve("chat_template.jinja");
    Files.createDirectories(file.getParent());
    Files.writeString(file, "of the " + name);
    return file;
  }

  /** What the adapter was trained on decides, unless something else is asked for. */
  @Test
  void anAdaptersTemplateTakesThePlaceOfTheModels() throws IOException {
    Path model = template("model").getParent();
    RowSettings settings = new RowSettings();
    assertThat(settings.template(model).orElseThrow().source()).isEqualTo("of the model");
    settings.adapter(Files.createDirectories(folder.resolve("bare")));
    assertThat(settings.template(model).orElseThrow().source()).isEqualTo("of the model");
    settings.adapter(template("adapter").getParent());
    assertThat(settings.template(model).orElseThrow().source()).isEqualTo("of the adapter");
    settings.chatTemplate = template("command").toString();
    assertThat(settings.template(model).orElseThrow().source()).isEqualTo("of the command");
  }
}
