package dev.oribi.train;

import dev.oribi.OribiException;
import java.io.IOException;
import java.io.StringReader;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.yaml.snakeyaml.LoaderOptions;
import org.yaml.snakeyaml.Yaml;
import org.yaml.snakeyaml.error.MarkedYAMLException;
import org.yaml.snakeyaml.error.YAMLException;
import org.yaml.snakeyaml.nodes.MappingNode;
import org.yaml.snakeyaml.nodes.Node;
import org.yaml.snakeyaml.nodes.NodeTuple;
import org.yaml.snakeyaml.nodes.ScalarNode;
import org.yaml.snakeyaml.nodes.SequenceNode;
import picocli.CommandLine;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * Brings options to one form before they are parsed: {@code --learning_rate 1e-4}, {@code learning_rate=1e-4} and the
 * line {@code learning_rate: 1e-4} of a YAML file all become {@code --learning-rate=1e-4}.
 *
 * <p>YAML scalars are taken as they are written and parsed by the type of their option. YAML's own idea of a type would
 * read {@code save_strategy: no} as false.
 */
public final class ConfigReader {
  private static final Set<String> YES = Set.of("true", "yes", "on");
  private static final Set<String> NO = Set.of("false", "no", "off");
  private static final Set<String> NULL = Set.of("", "~", "null");

  private ConfigReader() {}

  /**
   * A configuration from arguments as on the command line; {@code --config FILE} reads a YAML file.
   *
   * @throws OribiException that names the unknown or wrong option
   */
  public static TrainConfig read(String... arguments) {
    TrainConfig config = new TrainConfig();
    CommandLine parser = parser(config);
    try {
      parser.parseArgs(expand(parser.getCommandSpec(), List.of(arguments)).toArray(String[]::new));
    } catch (ParameterException e) {
      throw new OribiException(e.getMessage(), e);
    }
    return config;
  }

  /**
   * The arguments in one form, {@code --name=value}; the entries of the YAML file that {@code --config} names stand in
   * front, but for those that the arguments give too.
   *
   * @param spec the command whose options are known
   * @throws UnmatchedArgumentException for an unknown option, with the nearest known one
   * @throws OribiException for a YAML file that cannot be read, with file and line
   */
  public static List<String> expand(CommandSpec spec, List<String> arguments) {
    List<String> given = normalise(spec, arguments);
    Path file = null;
    for (String argument : given) {
      if (argument.startsWith("--config=")) {
        file = Path.of(argument.substring("--config=".length()));
      }
    }
    if (file == null || spec.findOption("--config") == null) {
      return given;
    }
    List<String> all = new ArrayList<>();
    readYaml(spec, file).forEach((name, value) -> {
      boolean overridden = given.stream().anyMatch(a -> a.equals(name) || a.startsWith(name + "="));
      if (!overridden) {
        all.add(name + "=" + value);
      }
    });
    all.addAll(given);
    return all;
  }

  private static List<String> normalise(CommandSpec spec, List<String> arguments) {
    List<String> result = new ArrayList<>();
    for (int i = 0; i < arguments.size(); i++) {
      String argument = arguments.get(i);
      boolean assignment = argument.matches("[A-Za-z][A-Za-z0-9_-]*=.*");
      if (!argument.startsWith("--") && !(assignment && spec.positionalParameters().isEmpty())) {
        result.add(argument);
        continue;
      }
      String name = optionName(argument);
      OptionSpec option = spec.findOption(name);
      if (option == null) {
        throw unknown(spec, name);
      }
      int equals = argument.indexOf('=');
      boolean valueFollows = equals < 0 && i + 1 < arguments.size() && takesNext(option, arguments.get(i + 1));
      if (valueFollows) {
        i++;
        result.add(name + "=" + arguments.get(i));
      } else {
        result.add(equals < 0 ? name : name + argument.substring(equals));
      }
    }
    return result;
  }

  /** {@code learning_rate=1}, {@code --learning_rate} and {@code --learning-rate=1} are all {@code --learning-rate}. */
  private static String optionName(String argument) {
    int equals = argument.indexOf('=');
    String name = equals < 0 ? argument : argument.substring(0, equals);
    return "--" + name.substring(name.startsWith("--") ? 2 : 0).replace('_', '-');
  }

  /** A switch takes the next word only if it is true or false; every other option takes whatever follows. */
  private static boolean takesNext(OptionSpec option, String next) {
    if (option.arity().max() == 0) {
      return false;
    }
    return option.arity().min() > 0 || next.equals("true") || next.equals("false");
  }

  private static UnmatchedArgumentException unknown(CommandSpec spec, String name) {
    String message = "Unknown option '" + name + "': did you mean '" + nearest(spec, name) + "'?";
    return new UnmatchedArgumentException(spec.commandLine(), message);
  }

  // -------------------------------------------------------------------------------------------------------------- YAML

  /** Option names and values of a YAML file, each checked by parsing it, so that an error has its line. */
  private static Map<String, String> readYaml(CommandSpec spec, Path file) {
    Map<String, String> values = new LinkedHashMap<>();
    for (NodeTuple entry : compose(file).getValue()) {
      String where = file + ":" + (entry.getKeyNode().getStartMark().getLine() + 1) + ": ";
      String key = entry.getKeyNode() instanceof ScalarNode scalar ? scalar.getValue() : "";
      String name = "--" + key.replace('_', '-');
      OptionSpec option = spec.findOption(name);
      if (option == null || key.isEmpty() || name.equals("--config")) {
        String nearest = nearest(spec, name).substring(2).replace('-', '_');
        throw new OribiException(where + "unknown key '" + key + "': did you mean '" + nearest + "'?");
      }
      String value = text(where, key, option, entry.getValueNode());
      if (values.containsKey(name)) {
        throw new OribiException(where + "the key '" + key + "' stands in the file twice: take one away.");
      }
      if (value != null) {
        checkValue(where, name, value);
        values.put(name, value);
      }
    }
    return values;
  }

  private static MappingNode compose(Path file) {
    try {
      Node root = new Yaml(new LoaderOptions()).compose(new StringReader(Files.readString(file)));
      if (root == null) {
        return new MappingNode(org.yaml.snakeyaml.nodes.Tag.MAP, List.of(), org.yaml.snakeyaml.DumperOptions.FlowStyle.BLOCK);
      }
      if (root instanceof MappingNode mapping) {
        return mapping;
      }
      throw new OribiException(file + ": this is no list of options; write lines such as 'learning_rate: 1e-4'.");
    } catch (CharacterCodingException e) {
      throw new OribiException(file + ": this is no text in UTF-8; --config takes a YAML file.", e);
    } catch (IOException e) {
      throw new OribiException(file + ": cannot be read; --config takes the path of a YAML file.", e);
    } catch (MarkedYAMLException e) {
      int line = e.getProblemMark() == null ? 1 : e.getProblemMark().getLine() + 1;
      throw new OribiException(file + ":" + line + ": this is no YAML: " + e.getProblem() + ".", e);
    } catch (YAMLException e) {
      throw new OribiException(file + ": this is no YAML: " + e.getMessage().lines().findFirst().orElse("") + ".", e);
    }
  }

  /** The value as on the command line; null if the file leaves it open. */
  private static String text(String where, String key, OptionSpec option, Node node) {
    if (node instanceof ScalarNode scalar) {
      boolean plain = scalar.isPlain();
      if (plain && NULL.contains(scalar.getValue().toLowerCase(Locale.ROOT))) {
        return null;
      }
      return option.type() == boolean.class ? truth(scalar.getValue()) : scalar.getValue();
    }
    if (node instanceof SequenceNode sequence && (option.isMultiValue() || option.type() == String.class)) {
      List<String> items = new ArrayList<>();
      for (Node item : sequence.getValue()) {
        if (!(item instanceof ScalarNode scalar)) {
          throw new OribiException(where + key + " takes a list of plain values.");
        }
        items.add(scalar.getValue());
      }
      return items.isEmpty() ? null : String.join(",", items);
    }
    throw new OribiException(where + key + " takes one plain value.");
  }

  private static String truth(String value) {
    String lower = value.toLowerCase(Locale.ROOT);
    return YES.contains(lower) ? "true" : NO.contains(lower) ? "false" : value;
  }

  private static void checkValue(String where, String name, String value) {
    try {
      parser(new TrainConfig()).parseArgs(name + "=" + value);
    } catch (ParameterException e) {
      throw new OribiException(where + e.getMessage(), e);
    }
  }

  // ------------------------------------------------------------------------------------------------------------- shared

  private static CommandLine parser(TrainConfig config) {
    return new CommandLine(config).setCaseInsensitiveEnumValuesAllowed(true).setOverwrittenOptionsAllowed(true);
  }

  /** The known option with the fewest letters to change. */
  private static String nearest(CommandSpec spec, String name) {
    String best = "--help";
    int fewest = Integer.MAX_VALUE;
    for (OptionSpec option : spec.options()) {
      int changes = distance(name, option.longestName());
      if (changes < fewest) {
        fewest = changes;
        best = option.longestName();
      }
    }
    return best;
  }

  /** Levenshtein's distance. */
  private static int distance(String a, String b) {
    int[] row = new int[b.length() + 1];
    for (int j = 0; j < row.length; j++) {
      row[j] = j;
    }
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j < row.length; j++) {
        int substituted = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(substituted, Math.min(row[j], row[j - 1]) + 1);
      }
    }
    return row[b.length()];
  }
}
