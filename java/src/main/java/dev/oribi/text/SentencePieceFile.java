package dev.oribi.text;

import dev.oribi.OribiException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A SentencePiece model ({@code tokenizer.model}): a protocol buffer, of which only the fields that tokenizing needs are read.
 * Every length is checked against the bytes that are left.
 */
final class SentencePieceFile {
  static final int NORMAL = 1;
  static final int UNKNOWN = 2;
  static final int CONTROL = 3;
  static final int USER_DEFINED = 4;
  static final int BYTE = 6;

  static final int UNIGRAM = 1;
  static final int BPE = 2;

  private static final int MAX_PIECES = 1 << 24;

  /** One entry of the vocabulary; its id is its place. */
  record Piece(String text, float score, int type) {}

  private final String file;
  final List<Piece> pieces = new ArrayList<>();
  int modelType = UNIGRAM;
  int bosId = 1;
  int eosId = 2;
  int padId = -1;
  boolean addsSpaceInFront = true;
  boolean removesExtraSpaces = true;
  boolean escapesSpaces = true;
  byte[] characterMap = new byte[0];

  private SentencePieceFile(Path file) {
    this.file = file.toString();
  }

  static SentencePieceFile read(Path file) {
    return parse(file, JsonFiles.readBytes(file));
  }

  static SentencePieceFile parse(Path file, byte[] bytes) {
    SentencePieceFile model = new SentencePieceFile(file);
    model.message(ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN), 0);
    if (model.pieces.isEmpty()) {
      throw model.broken("it has no pieces");
    }
    return model;
  }

  OribiException broken(String why) {
    return new OribiException(file + " is not a SentencePiece model that can be used, " + why + ": download the file again.");
  }

  // ------------------------------------------------------------------------------------------------------ protocol buffer

  private static final int MODEL = 0;
  private static final int PIECE = 1;
  private static final int TRAINER = 2;
  private static final int NORMALIZER = 3;

  private String pieceText;
  private float pieceScore;
  private int pieceType;

  private void message(ByteBuffer in, int kind) {
    while (in.hasRemaining()) {
      long tag = varint(in);
      int field = (int) (tag >>> 3);
      switch ((int) (tag & 7)) {
        case 0 -> number(kind, field, varint(in));
        case 1 -> skip(in, 8);
        case 2 -> block(kind, field, slice(in));
        case 5 -> word(kind, field, in);
        default -> throw broken("a field has no known type");
      }
    }
  }

  private void number(int kind, int field, long value) {
    if (kind == PIECE && field == 3) {
      pieceType = (int) value;
    } else if (kind == TRAINER) {
      switch (field) {
        case 3 -> modelType = (int) value;
        case 41 -> bosId = (int) value;
        case 42 -> eosId = (int) value;
        case 43 -> padId = (int) value;
        default -> { }
      }
    } else if (kind == NORMALIZER) {
      switch (field) {
        case 3 -> addsSpaceInFront = value != 0;
        case 4 -> removesExtraSpaces = value != 0;
        case 5 -> escapesSpaces = value != 0;
        default -> { }
      }
    }
  }

  private void block(int kind, int field, ByteBuffer value) {
    if (kind == MODEL && field == 1) {
      piece(value);
    } else if (kind == MODEL && field == 2) {
      message(value, TRAINER);
    } else if (kind == MODEL && field == 3) {
      message(value, NORMALIZER);
    } else if (kind == PIECE && field == 1) {
      pieceText = utf8(value);
    } else if (kind == NORMALIZER && field == 2) {
      characterMap = new byte[value.remaining()];
      value.get(characterMap);
    }
  }

  private void piece(ByteBuffer value) {
    pieceText = "";
    pieceScore = 0;
    pieceType = NORMAL;
    message(value, PIECE);
    if (pieces.size() == MAX_PIECES) {
      throw broken("it has more than " + MAX_PIECES + " pieces");
    }
    if (!Float.isFinite(pieceScore)) {
      throw broken("the score of piece " + pieces.size() + " is " + pieceScore);
    }
    pieces.add(new Piece(pieceText, pieceScore, pieceType));
  }

  private void word(int kind, int field, ByteBuffer in) {
    if (in.remaining() < 4) {
      throw broken("it ends in the middle of a field");
    }
    float value = in.getFloat();
    pieceScore = kind == PIECE && field == 2 ? value : pieceScore;
  }

  private String utf8(ByteBuffer value) {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(value).toString();
    } catch (CharacterCodingException e) {
      throw broken("piece " + pieces.size() + " is not UTF-8");
    }
  }

  private long varint(ByteBuffer in) {
    long value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (!in.hasRemaining()) {
        throw broken("it ends in the middle of a number");
      }
      byte b = in.get();
      value |= (long) (b & 0x7F) << shift;
      if (b >= 0) {
        return value;
      }
    }
    throw broken("a number is too long");
  }

  private ByteBuffer slice(ByteBuffer in) {
    long length = varint(in);
    if (length < 0 || length > in.remaining()) {
      throw broken("a field of " + Long.toUnsignedString(length) + " bytes reaches past the end");
    }
    ByteBuffer slice = in.slice(in.position(), (int) length).order(ByteOrder.LITTLE_ENDIAN);
    in.position(in.position() + (int) length);
    return slice;
  }

  private void skip(ByteBuffer in, int bytes) {
    if (in.remaining() < bytes) {
      throw broken("it ends in the middle of a field");
    }
    in.position(in.position() + bytes);
  }

  // ---------------------------------------------------------------------------------------------------------------- shape

  /** Ids of the 256 bytes; -1 where a byte has no piece. */
  int[] byteIds() {
    int[] ids = new int[256];
    Arrays.fill(ids, -1);
    for (int id = 0; id < pieces.size(); id++) {
      int b = pieces.get(id).type() == BYTE ? TextDecoder.byteToken(pieces.get(id).text()) : -1;
      if (b >= 0) {
        ids[b] = id;
      }
    }
    return ids;
  }

  int unknownId() {
    for (int id = 0; id < pieces.size(); id++) {
      if (pieces.get(id).type() == UNKNOWN) {
        return id;
      }
    }
    throw broken("it has no piece for unknown characters");
  }
}
