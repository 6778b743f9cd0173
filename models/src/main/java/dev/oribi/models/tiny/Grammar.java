package dev.oribi.models.tiny;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Rules that write text: a context-free grammar whose expansions remember what they chose.
 *
 * <p>A rule is a name at the start of a line; each line indented by two spaces below it is one alternative, a line indented
 * further goes on with the one above, and {@code #} starts a comment. Inside an alternative:
 *
 * <ul>
 *   <li>{@code (red|blue)} is either text, {@code (very |)} is a word or nothing; these nest;
 *   <li>{@code [rule]} is a fresh expansion of a rule;
 *   <li>{@code $toy} is an expansion of the rule {@code toy} that stays the same for the whole document, and {@code $toy2}
 *       another one, different from {@code $toy}, unless there is a rule of that very name; a document may also set such
 *       names beforehand ({@code $hero});
 *   <li>a capital ({@code $Toy}, {@code [Toy]}) writes the first letter as a capital.
 * </ul>
 *
 * <p>"a" becomes "an" before a vowel. The same random numbers give the same text on every machine. Instances are immutable.
 */
final class Grammar {
  private static final Pattern NAME = Pattern.compile("[A-Za-z]+[0-9]?");
  private static final Pattern ARTICLE = Pattern.compile("\\b([Aa]) (?=[aeiouAEIOU])(?!one\\b|use)");
  private static final int MAX_DRAWS = 100;

  private final Map<String, List<String>> rules;

  private Grammar(Map<String, List<String>> rules) {
    this.rules = rules;
  }

  /** Reads the grammar kept beside this class under the given name. */
  static Grammar resource(String name) {
    return new Grammar(parse(name, lines(name)));
  }

  /** The lines of a text file kept beside this class. */
  static List<String> lines(String name) {
    try (InputStream in = Grammar.class.getResourceAsStream(name)) {
      if (in == null) {
        throw new IllegalStateException("No resource " + name + " beside " + Grammar.class.getName());
      }
      return new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8)).lines().toList();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static Map<String, List<String>> parse(String file, List<String> lines) {
    Map<String, List<String>> rules = new LinkedHashMap<>();
    List<String> alternatives = null;
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i);
      String text = line.strip();
      if (text.isEmpty() || text.startsWith("#")) {
        continue;
      }
      int indent = line.length() - line.stripLeading().length();
      if (indent == 0) {
        alternatives = new ArrayList<>();
        if (rules.put(text, alternatives) != null) {
          throw new IllegalArgumentException(file + ":" + (i + 1) + ": rule " + text + " is there twice");
        }
      } else if (alternatives == null || indent > 2 && alternatives.isEmpty()) {
        throw new IllegalArgumentException(file + ":" + (i + 1) + ": a line that belongs to no rule");
      } else if (indent == 2) {
        alternatives.add(text);
      } else {
        alternatives.add(alternatives.remove(alternatives.size() - 1) + " " + text);
      }
    }
    return rules;
  }

  /** All rules with their alternatives, as written. */
  Map<String, List<String>> rules() {
    return Collections.unmodifiableMap(rules);
  }

  /** Starts a document. Names in {@code given} are what {@code $name} writes; the map is copied. */
  Document document(Random random, Map<String, String> given) {
    return new Document(random, given);
  }

  static String capitalize(String s) {
    return s.isEmpty() ? s : Character.toUpperCase(s.charAt(0)) + s.substring(1);
  }

  /** One text in the making: the choices that its names are bound to. */
  final class Document {
    private final Random random;
    private final Map<String, String> bound;

    private Document(Random random, Map<String, String> given) {
      this.random = random;
      this.bound = new HashMap<>(given);
    }

    /** A whole text from a rule: expanded, spaces tidied, articles made right. */
    String write(String rule) {
      return tidy(expandRule(rule));
    }

    /** A whole text from a line in the grammar's notation. */
    String writeText(String text) {
      return tidy(expand(text));
    }

    private String tidy(String text) {
      String spaced = text.replaceAll(" {2,}", " ").replaceAll(" +([.,!?])", "$1").strip();
      Matcher m = ARTICLE.matcher(spaced);
      return m.replaceAll("$1n ");
    }

    private String expandRule(String name) {
      List<String> alternatives = rules.get(name);
      if (alternatives == null) {
        throw new IllegalArgumentException("The grammar has no rule " + name);
      }
      return expand(alternatives.get(random.nextInt(alternatives.size())));
    }

    private String expand(String text) {
      StringBuilder out = new StringBuilder();
      int i = 0;
      while (i < text.length()) {
        char c = text.charAt(i);
        if (c == '(') {
          int close = closing(text, i);
          List<String> options = options(text.substring(i + 1, close));
          out.append(expand(options.get(random.nextInt(options.size()))));
          i = close + 1;
        } else if (c == '[') {
          int close = text.indexOf(']', i);
          out.append(named(text.substring(i + 1, close), this::expandRule));
          i = close + 1;
        } else if (c == '$') {
          Matcher m = NAME.matcher(text).region(i + 1, text.length());
          if (!m.lookingAt()) {
            throw new IllegalArgumentException("A $ without a name in: " + text);
          }
          out.append(named(m.group(), this::binding));
          i = m.end();
        } else {
          out.append(c);
          i++;
        }
      }
      return out.toString();
    }

    private String named(String name, UnaryOperator<String> lookUp) {
      char first = name.charAt(0);
      return Character.isUpperCase(first)
          ? capitalize(lookUp.apply(Character.toLowerCase(first) + name.substring(1)))
          : lookUp.apply(name);
    }

    private String binding(String name) {
      String known = bound.get(name);
      if (known != null) {
        return known;
      }
      String rule = rules.containsKey(name) ? name : name.replaceFirst("[0-9]$", "");
      for (int draw = 0; draw < MAX_DRAWS; draw++) {
        String value = expandRule(rule);
        boolean taken = bound.entrySet().stream().anyMatch(e -> e.getKey().startsWith(rule) && e.getValue().equals(value));
        if (!taken) {
          bound.put(name, value);
          return value;
        }
      }
      throw new IllegalArgumentException("The rule " + rule + " has too few alternatives for $" + name);
    }
  }

  /** Index of the bracket that closes the one at {@code open}. */
  private static int closing(String text, int open) {
    int depth = 0;
    for (int i = open; i < text.length(); i++) {
      if (text.charAt(i) == '(') {
        depth++;
      } else if (text.charAt(i) == ')' && --depth == 0) {
        return i;
      }
    }
    throw new IllegalArgumentException("A ( without its ) in: " + text);
  }

  /** Splits at the bars that stand in no inner bracket. */
  private static List<String> options(String text) {
    List<String> options = new ArrayList<>();
    int depth = 0;
    int begin = 0;
    for (int i = 0; i < text.length(); i++) {
      switch (text.charAt(i)) {
        case '(' -> depth++;
        case ')' -> depth--;
        case '|' -> {
          if (depth == 0) {
            options.add(text.substring(begin, i));
            begin = i + 1;
          }
        }
        default -> { }
      }
    }
    options.add(text.substring(begin));
    return options;
  }
}
