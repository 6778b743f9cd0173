package dev.oribi.text.jinja;

import java.time.Clock;
import java.time.ZonedDateTime;
import java.util.List;
import java.util.Map;

/** A parsed template. Immutable; safe for use by many threads. */
public final class Template {
  private final Statement body;

  private Template(Statement body) {
    this.body = body;
  }

  /**
   * Parses a template.
   *
   * @throws TemplateException if it is not valid Jinja, or uses a tag, filter or test that is not there
   */
  public static Template parse(String source) {
    try {
      return new Template(Parser.parse(Lexer.tokens(source)));
    } catch (StackOverflowError e) {
      throw new TemplateException("The template is nested too deeply");
    }
  }

  /**
   * What a template printed.
   *
   * @param text the text
   * @param generation begin and end (excluded), as indices into the text, of what stood inside {@code {% generation %}}
   */
  public record Page(String text, List<int[]> generation) {}

  /**
   * Renders the template.
   *
   * @param variables strings, numbers, booleans, null, lists and maps of these; copied before use
   * @param clock what {@code strftime_now} reads
   * @throws TemplateException if the template raises an error, misuses a value, or does too much
   */
  public Page render(Map<String, ?> variables, Clock clock) {
    Budget budget = new Budget();
    Frame frame = new Frame(budget, new Output(), null);
    frame.set("strftime_now", (Function) (f, arguments) ->
        Strftime.format(ZonedDateTime.now(clock), arguments.string(0, "format", "")));
    try {
      variables.forEach((name, value) -> frame.set(name, Values.of(value)));
      body.run(frame);
    } catch (TemplateException e) {
      throw new TemplateException(e.getMessage(), budget.line);
    } catch (StackOverflowError e) {
      throw new TemplateException("Values or calls are nested too deeply", budget.line);
    }
    return new Page(frame.out.text.toString(), List.copyOf(frame.out.generation));
  }
}
