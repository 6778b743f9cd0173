package dev.oribi.langchain4j;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.StringWriter;
import java.net.URLClassLoader;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.JavaCompiler;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The Java of README.md and docs/guide.md, taken from there: all of it compiles, and the service of the guide answers. */
class PageExamplesTest {
  private static final Pattern BLOCK = Pattern.compile("(?ms)^```java\\n(.*?)^```$");
  private static final String IMPORTS = "import dev.langchain4j.model.chat.ChatModel;\nimport dev.oribi.generate.*;\nimport dev.oribi.langchain4j.*;\n"
      + "import dev.oribi.train.*;\nimport java.nio.file.Path;\nimport java.util.*;\n";

  @TempDir Path folder;

  private static List<String> blocks(String page) throws Exception {
    Matcher found = BLOCK.matcher(Files.readString(Path.of("..").resolve(page)));
    return found.results().map(r -> r.group(1)).toList();
  }

  private Class<?> compile(String name, String statements) throws Exception {
    Path source = Files.writeString(folder.resolve(name + ".java"), IMPORTS + "public class " + name
        + " {\n  public static void run() throws Exception {\n" + statements + "  }\n}\n");
    JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
    assertThat(compiler).as("a compiler in this Java").isNotNull();
    StringWriter errors = new StringWriter();
    String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    boolean done = compiler.getTask(errors, null, null, List.of("-cp", classPath, "-d", folder.toString()), null,
        compiler.getStandardFileManager(null, null, null).getJavaFileObjects(source)).call();
    assertThat(done).as(statements + errors).isTrue();
    return new URLClassLoader(new URL[] {folder.toUri().toURL()}, getClass().getClassLoader()).loadClass(name);
  }

  @Test
  void everyExampleCompiles() throws Exception {
    List<String> all = new ArrayList<>(blocks("README.md"));
    all.addAll(blocks("docs/guide.md"));
    assertThat(all).hasSizeGreaterThanOrEqualTo(3);
    for (int i = 0; i < all.size(); i++) {
      compile("Example" + i, all.get(i));
    }
  }

  /** With the tiny model, and an adapter of it in the place of both. */
  @Test
  void theServiceOfTheGuideAnswers() throws Exception {
    Path adapter = Files.createDirectory(folder.resolve("adapter"));
    TinyAdapter.write(adapter);
    String example = blocks("docs/guide.md").stream().filter(b -> b.contains("OribiModel")).findFirst().orElseThrow();
    String here = example.replace("Path.of(\"base\")", "Path.of(\"../models/tiny/model\")").replace("Path.of(\"support-adapter\")", "Path.of(\"" + adapter + "\")")
        .replace("Path.of(\"sales-adapter\")", "Path.of(\"" + adapter + "\")").replace("2048", "128")
        .replaceFirst("chat\\.chat\\(\"[^\"]*\"\\)", "System.setProperty(\"answer\", chat.chat(\"Who are you?\"))");
    assertThat(here).doesNotContain("base\"").contains("answer");
    try {
      compile("Service", here).getMethod("run").invoke(null);
      assertThat(System.getProperty("answer")).isNotNull();
    } finally {
      System.clearProperty("answer");
    }
  }
}
