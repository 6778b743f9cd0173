package dev.oribi.text;

import dev.oribi.text.BytePairEngine.Settings;
import dev.oribi.text.BytePairEngine.Spaces;
import dev.oribi.text.SentencePieceFile.Piece;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * A SentencePiece model as {@link BytePairEngine} reads it. Two pieces merge if together they are a piece, the one with the best
 * score first. Control pieces ({@code <s>}) are looked for in the text, as transformers does; SentencePiece itself would cut them up.
 */
final class SentencePieces {
  /** Published models have pieces of up to 16 characters, and runs of 31 spaces. */
  private static final int LONGEST_PIECE = 256;

  private SentencePieces() {}

  /** @param legacy as {@code tokenizer_config.json} has it: a space in front of every part between special tokens */
  static Settings settings(SentencePieceFile model, boolean legacy) {
    Map<String, Integer> merging = new HashMap<>();
    Map<String, Integer> added = new HashMap<>();
    Set<Integer> special = new HashSet<>();
    String[] tokens = new String[model.pieces.size()];
    for (int id = 0; id < tokens.length; id++) {
      Piece piece = model.pieces.get(id);
      tokens[id] = piece.text();
      switch (piece.type()) {
        case SentencePieceFile.NORMAL -> merging.putIfAbsent(checked(model, piece), id);
        case SentencePieceFile.USER_DEFINED -> added.put(piece.text().replace(WordRule.SPACE, ' '), id);
        case SentencePieceFile.CONTROL, SentencePieceFile.UNKNOWN -> {
          added.put(piece.text(), id);
          special.add(id);
        }
        case SentencePieceFile.BYTE -> { }
        default -> throw model.broken("piece " + id + " is of a type that is not supported");
      }
    }
    boolean plain = model.characterMap.length == 0 && !model.removesExtraSpaces && model.escapesSpaces;
    Spaces spaces = !model.addsSpaceInFront ? Spaces.SIGNS : legacy ? Spaces.SIGN_IN_FRONT : Spaces.SIGN_AT_BEGINNING;
    WordRule rule = SpaceSigns.begin(merging.keySet()) ? WordRule.SPACE_SIGN : WordRule.WHOLE;
    return new Settings(encoder(model, merging), rule, spaces, plain ? null : new CharacterMap(model), false, new AddedTokens(added),
        new TextDecoder(false, model.addsSpaceInFront), tokens, special, around(model, model.bosId), new int[0]);
  }

  private static String checked(SentencePieceFile model, Piece piece) {
    if (piece.text().length() > LONGEST_PIECE) {
      throw model.broken("a piece has " + piece.text().length() + " characters");
    }
    return piece.text();
  }

  private static int[] around(SentencePieceFile model, int id) {
    return id >= 0 && id < model.pieces.size() ? new int[] {id} : new int[0];
  }

  private static WordEncoder encoder(SentencePieceFile model, Map<String, Integer> merging) {
    if (model.modelType == SentencePieceFile.UNIGRAM) {
      return new Unigram(model);
    }
    if (model.modelType != SentencePieceFile.BPE) {
      throw model.broken("its model is neither BPE nor unigram");
    }
    int[] rank = ranks(model);
    PairTable pairs = new PairTable(2 * merging.size());
    merging.forEach((text, id) -> {
      for (int cut = 1; cut < text.length(); cut++) {
        Integer left = merging.get(text.substring(0, cut));
        Integer right = left == null ? null : merging.get(text.substring(cut));
        if (right != null) {
          pairs.put(left, right, rank[id], id);
        }
      }
    });
    return new BytePairs(merging, pairs, model.byteIds(), false, false, model.unknownId(), true);
  }

  /** Places by score, the best first; equal scores have the same one, so that the leftmost pair merges. */
  private static int[] ranks(SentencePieceFile model) {
    Integer[] order = new Integer[model.pieces.size()];
    Arrays.setAll(order, i -> i);
    Arrays.sort(order, (a, b) -> Float.compare(model.pieces.get(b).score(), model.pieces.get(a).score()));
    int[] rank = new int[order.length];
    for (int i = 1, last = 0; i < order.length; i++) {
      last += model.pieces.get(order[i]).score() == model.pieces.get(order[i - 1]).score() ? 0 : 1;
      rank[order[i]] = last;
    }
    return rank;
  }
}
