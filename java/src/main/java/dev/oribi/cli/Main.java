package dev.oribi.cli;

import dev.oribi.OribiException;
import dev.oribi.train.MemorySize;
import dev.oribi.train.ConfigReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.UnmatchedArgumentException;

/** The command {@code oribi}. */
@Command(
    name = "oribi",
    description = "Fine-tunes open large language models on the JVM.",
    subcommands = {
      TrainCommand.class, GenerateCommand.class, ChatCommand.class, EvalCommand.class, PlanCommand.class,
      ServeCommand.class, ExportCommand.class, QuantizeCommand.class, TraceCommand.class, BenchCommand.class, InspectCommand.class, VersionCommand.class
    },
    synopsisSubcommandLabel = "COMMAND",
    footer = {
      "",
      "Options may be written --learning-rate 1e-4, --learning_rate=1e-4 or learning_rate=1e-4.",
      "'oribi COMMAND --help' explains a command. Without options 'oribi train' trains Oribi's own tiny model.",
      "Exit codes: 0 done, 1 failed, 2 wrong command line, 130 and 143 stopped by Ctrl-C or SIGTERM (train: with a checkpoint)."
    })
public final class Main {
  @Option(names = "--debug", scope = ScopeType.INHERIT, description = "Show where in the program an error comes from.")
  private boolean debug;

  @Option(names = {"-h", "--help"}, usageHelp = true, scope = ScopeType.INHERIT, description = "Explain the command.")
  private boolean help;

  private static final int HELP_WIDTH = 110;

  private Main() {}

  /** Runs a command and ends the process with its exit code. */
  public static void main(String[] arguments) {
    System.exit(run(arguments));
  }

  /** Runs a command; returns its exit code. */
  static int run(String... arguments) {
    Main main = new Main();
    CommandLine line = new CommandLine(main)
        .setCaseInsensitiveEnumValuesAllowed(true)
        .setOverwrittenOptionsAllowed(true)
        .setUsageHelpWidth(HELP_WIDTH)
        .setUsageHelpLongOptionsMaxWidth(34)
        .setParameterExceptionHandler((e, given) -> wrongUsage(e))
        .setExecutionExceptionHandler((e, command, parsed) -> failed(command.getErr(), e, main.debug));
    line.getSubcommands().values().forEach(Main::showDefaults);
    try {
      int code = line.execute(expand(line, List.of(arguments)).toArray(String[]::new));
      if (code == ExitCode.OK && System.out.checkError()) {
        throw new OribiException("not all of the output could be written: the standard output is closed, or its disk is full");
      }
      return code;
    } catch (ParameterException e) {
      return wrongUsage(e);
    } catch (OribiException e) {
      return failed(line.getErr(), e, List.of(arguments).contains("--debug"));
    } catch (OutOfMemoryError e) {
      String message =
          "Java's own memory, " + MemorySize.format(Runtime.getRuntime().maxMemory()) + ", is too small for this: give it more with"
              + " the environment variable JAVA_TOOL_OPTIONS=-Xmx8g";
      return failed(line.getErr(), new OribiException(message, e), List.of(arguments).contains("--debug"));
    }
  }

  private static void showDefaults(CommandLine command) {
    command.getCommandSpec().usageMessage().showDefaultValues(true).sortOptions(false).abbreviateSynopsis(true);
    command.getSubcommands().values().forEach(Main::showDefaults);
  }

  /** Brings the options behind the name of the command to one form; {@link ConfigReader} says which. */
  private static List<String> expand(CommandLine line, List<String> arguments) {
    CommandLine command = line;
    int at = 0;
    while (at < arguments.size()) {
      CommandLine next = command.getSubcommands().get(arguments.get(at));
      if (next == null && !arguments.get(at).equals("--debug")) {
        break;
      }
      command = next == null ? command : next;
      at++;
    }
    if (command == line) {
      return arguments;
    }
    List<String> all = new ArrayList<>(arguments.subList(0, at));
    all.addAll(ConfigReader.expand(command.getCommandSpec(), arguments.subList(at, arguments.size())));
    return all;
  }

  private static int wrongUsage(ParameterException e) {
    CommandLine command = e.getCommandLine();
    PrintWriter err = command.getErr();
    err.println("oribi: " + oneLine(wrong(e)));
    err.println("Try '" + command.getCommandSpec().qualifiedName() + " --help'.");
    err.flush();
    return ExitCode.USAGE;
  }

  /** In place of what the parser says of a word where a command should be. */
  private static String wrong(ParameterException e) {
    CommandLine command = e.getCommandLine();
    boolean choice = !command.getSubcommands().isEmpty();
    if (choice && e instanceof UnmatchedArgumentException u && !u.getUnmatched().get(0).startsWith("-")) {
      List<String> near = u.getSuggestions();
      return "there is no command '" + u.getUnmatched().get(0) + "'" + (near.isEmpty() ? "" : ": did you mean '" + near.get(0) + "'?");
    }
    return choice && e.getMessage().equals("Missing required subcommand")
        ? "a command is missing; there are " + String.join(", ", command.getSubcommands().keySet()) : e.getMessage();
  }

  private static int failed(PrintWriter err, Exception e, boolean debug) {
    err.println("oribi: " + oneLine(message(e)));
    if (debug) {
      e.printStackTrace(err);
    }
    err.flush();
    return ExitCode.SOFTWARE;
  }

  private static String message(Exception e) {
    if (e instanceof OribiException) {
      return e.getMessage();
    }
    if (e instanceof IOException || e instanceof UncheckedIOException) {
      return "A file cannot be read or written: " + e.getMessage();
    }
    return "This is a fault in Oribi (" + e + "): please report it with what --debug shows.";
  }

  private static String oneLine(String text) {
    return text.strip().replaceAll("\\s*\\R\\s*", " ");
  }
}
