package dev.oribi.docs;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The scripts that start Java, with a Java that only tells what letters it can read and write. */
class LauncherTest {
  @TempDir Path home;

  private Path executable(String name, String text) throws Exception {
    Path file = home.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
    assertThat(file.toFile().setExecutable(true)).isTrue();
    return file;
  }

  /** Also a locale that is not installed, as one that came along from another machine. */
  @ParameterizedTest
  @CsvSource({"LANG, C", "LANG, xx_XX.UTF-8", "LC_ALL, xx_XX.UTF-8", "LC_ALL, POSIX", "LC_CTYPE, xx_XX", "LANG, ''"})
  void everyLetterIsRead(String variable, String locale) throws Exception {
    executable("runtime/bin/java", "#!/bin/sh\nlocale charmap\n");
    String script = Files.readString(Path.of("../ci/launcher/oribi"));
    ProcessBuilder builder = new ProcessBuilder(executable("bin/oribi", script).toString(), "version").redirectError(ProcessBuilder.Redirect.DISCARD);
    Map<String, String> environment = builder.environment();
    environment.keySet().removeIf(k -> k.startsWith("LC_") || k.equals("LANG"));
    environment.put(variable, locale);
    Process process = builder.start();
    assertThat(new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)).isEqualTo("UTF-8\n");
    String rule = script.lines().filter(l -> l.startsWith("case ")).findFirst().orElseThrow();
    assertThat(Files.readString(Path.of("../oribi")).replaceAll("\\s+", " ")).as("the other script does the same").contains(rule);
  }
}
