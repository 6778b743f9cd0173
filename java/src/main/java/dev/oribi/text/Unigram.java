package dev.oribi.text;

import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * SentencePiece's unigram model: of all ways to cut a word into pieces, the one with the largest sum of scores (Viterbi). A
 * character without a piece counts as an unknown one, at ten less than the worst score; unknown ones side by side are one token.
 */
final class Unigram implements WordEncoder {
  private static final float UNKNOWN_PENALTY = 10;

  private static final class Node {
    final Map<Character, Node> next = new HashMap<>();
    int id = -1;
  }

  private final Node root = new Node();
  private final SentencePieceFile model;
  private final int[] byteIds;
  private final boolean fallsBackToBytes;
  private final int unknown;
  private final float unknownScore;

  Unigram(SentencePieceFile model) {
    this.model = model;
    this.byteIds = model.byteIds();
    this.fallsBackToBytes = Arrays.stream(byteIds).allMatch(id -> id >= 0);
    this.unknown = model.unknownId();
    float worst = 0;
    for (int id = 0; id < model.pieces.size(); id++) {
      SentencePieceFile.Piece piece = model.pieces.get(id);
      if (piece.type() == SentencePieceFile.NORMAL && !piece.text().isEmpty()) {
        worst = Math.min(worst, piece.score());
        Node node = root;
        for (char c : piece.text().toCharArray()) {
          node = node.next.computeIfAbsent(c, k -> new Node());
        }
        node.id = node.id < 0 ? id : node.id;
      }
    }
    unknownScore = worst - UNKNOWN_PENALTY;
  }

  @Override
  public void encode(char[] text, int begin, int end, Merger out) {
    int n = end - begin;
    float[] best = new float[n + 1];
    int[] from = new int[n + 1];
    int[] with = new int[n + 1];
    Arrays.fill(best, Float.NEGATIVE_INFINITY);
    best[0] = 0;
    for (int i = 0; i < n; ) {
      int units = CharKind.units(text, begin + i, end);
      boolean single = false;
      Node node = root;
      for (int j = i; j < n; j++) {
        node = node.next.get(text[begin + j]);
        if (node == null) {
          break;
        }
        if (node.id >= 0) {
          single |= j + 1 == i + units;
          reach(best, from, with, i, j + 1, best[i] + model.pieces.get(node.id).score(), node.id);
        }
      }
      if (!single) {
        reach(best, from, with, i, i + units, best[i] + unknownScore, unknown);
      }
      i += units;
    }
    collect(text, begin, n, from, with, out);
  }

  private static void reach(float[] best, int[] from, int[] with, int i, int j, float score, int id) {
    if (score > best[j]) {
      best[j] = score;
      from[j] = i;
      with[j] = id;
    }
  }

  private void collect(char[] text, int begin, int n, int[] from, int[] with, Merger out) {
    int count = 0;
    int[] ends = new int[n];
    for (int at = n; at > 0; at = from[at]) {
      ends[count++] = at;
    }
    out.clear();
    while (count-- > 0) {
      int at = ends[count];
      byte[] utf8 = new String(text, begin + from[at], at - from[at]).getBytes(java.nio.charset.StandardCharsets.UTF_8);
      if (with[at] == unknown && fallsBackToBytes) {
        for (byte b : utf8) {
          out.add(byteIds[b & 0xFF], 1);
        }
      } else if (with[at] == unknown && out.size > 0 && out.ids[out.size - 1] == unknown) {
        out.bytes[out.size - 1] += utf8.length;
      } else {
        out.add(with[at], utf8.length);
      }
    }
  }
}
