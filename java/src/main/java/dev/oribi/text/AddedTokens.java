package dev.oribi.text;

import java.util.HashMap;
import java.util.Map;

/** Finds the tokens that are looked for in the text before it is cut into words, such as {@code <|im_end|>}; of two the longer. */
final class AddedTokens {
  private static final class Node {
    final Map<Character, Node> next = new HashMap<>();
    int id = -1;
  }

  private final Node root = new Node();
  /** First characters, so that text without any costs one look-up a character. */
  private final boolean[] first = new boolean[1 << 16];

  /** Where a token was found. */
  record Match(int begin, int end, int id) {}

  AddedTokens(Map<String, Integer> ids) {
    ids.forEach((token, id) -> {
      if (!token.isEmpty()) {
        Node node = root;
        for (char c : token.toCharArray()) {
          node = node.next.computeIfAbsent(c, k -> new Node());
        }
        node.id = id;
        first[token.charAt(0)] = true;
      }
    });
  }

  /** The first token from a place on, or null. */
  Match find(char[] text, int from, int end) {
    for (int i = from; i < end; i++) {
      if (first[text[i]]) {
        Match match = at(text, i, end);
        if (match != null) {
          return match;
        }
      }
    }
    return null;
  }

  private Match at(char[] text, int i, int end) {
    Node node = root;
    Match longest = null;
    for (int j = i; j < end; j++) {
      node = node.next.get(text[j]);
      if (node == null) {
        break;
      }
      if (node.id >= 0) {
        longest = new Match(i, j + 1, node.id);
      }
    }
    return longest;
  }
}
