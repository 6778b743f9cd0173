package dev.oribi.data;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A row as bytes: number of tokens, flags, tokens, labels (none, a bit for each token, or all of them), and its source. A row that
 * is mostly masked so takes little more than four bytes a token.
 */
final class RowBytes {
  private static final int TRUNCATED = 1;
  private static final int BITS = 2;
  private static final int LABELS = 4;
  private static final int MAX_TEXT = 4000;

  private RowBytes() {}

  static byte[] write(Row row) {
    int n = row.length();
    byte[] source = row.source().getBytes(StandardCharsets.UTF_8);
    int flags = (row.truncated() ? TRUNCATED : 0) | (row.labels() == row.inputIds() ? 0 : isMask(row) ? BITS : LABELS);
    int labels = (flags & BITS) != 0 ? (n + 7) / 8 : (flags & LABELS) != 0 ? Integer.BYTES * n : 0;
    ByteBuffer out = ByteBuffer.allocate(Integer.BYTES + 1 + Integer.BYTES * n + labels + source.length);
    out.putInt(n).put((byte) flags);
    out.asIntBuffer().put(row.inputIds());
    out.position(out.position() + Integer.BYTES * n);
    if ((flags & LABELS) != 0) {
      out.asIntBuffer().put(row.labels());
      out.position(out.position() + labels);
    } else if ((flags & BITS) != 0) {
      out.put(Arrays.copyOf(bits(row), labels));
    }
    return out.put(source).array();
  }

  private static boolean isMask(Row row) {
    for (int i = 0; i < row.length(); i++) {
      if (row.labels()[i] != MicroBatch.IGNORE && row.labels()[i] != row.inputIds()[i]) {
        return false;
      }
    }
    return true;
  }

  private static byte[] bits(Row row) {
    byte[] bits = new byte[(row.length() + 7) / 8];
    for (int i = 0; i < row.length(); i++) {
      bits[i >> 3] |= (byte) (row.labels()[i] == MicroBatch.IGNORE ? 0 : 1 << (i & 7));
    }
    return bits;
  }

  /** Number of tokens of a row, which stays to be read. */
  static int length(ByteBuffer in) {
    return in.getInt(in.position());
  }

  /** @throws RuntimeException if the bytes are no row */
  static Row read(ByteBuffer in) {
    int n = in.getInt();
    int flags = in.get();
    if (n < 0 || (long) n * Integer.BYTES > in.remaining()) {
      throw new IllegalArgumentException("no row");
    }
    int[] ids = ints(in, n);
    int[] labels = ids;
    if ((flags & LABELS) != 0) {
      labels = ints(in, n);
    } else if ((flags & BITS) != 0) {
      byte[] bits = new byte[(n + 7) / 8];
      in.get(bits);
      labels = new int[n];
      for (int i = 0; i < n; i++) {
        labels[i] = (bits[i >> 3] >> (i & 7) & 1) == 1 ? ids[i] : MicroBatch.IGNORE;
      }
    }
    byte[] source = new byte[in.remaining()];
    in.get(source);
    return new Row(ids, labels, new String(source, StandardCharsets.UTF_8), (flags & TRUNCATED) != 0);
  }

  private static int[] ints(ByteBuffer in, int n) {
    int[] values = new int[n];
    in.slice(in.position(), Integer.BYTES * n).asIntBuffer().get(values);
    in.position(in.position() + Integer.BYTES * n);
    return values;
  }

  static void writeReport(DataOutputStream out, Report r) throws IOException {
    out.writeInt(r.files());
    out.writeInt(r.rowsRead());
    out.writeInt(r.rowsTruncated());
    out.writeLong(r.tokens());
    out.writeLong(r.targetTokens());
    out.writeInt(r.rowsEnding());
    out.writeInt(r.pairs());
    out.writeByte(r.dropped().size());
    for (Report.Dropped d : r.dropped()) {
      out.writeUTF(d.why());
      out.writeInt(d.rows());
      out.writeUTF(d.first().length() > MAX_TEXT ? d.first().substring(0, MAX_TEXT) : d.first());
    }
  }

  static Report readReport(DataInputStream in) throws IOException {
    int files = in.readInt();
    int read = in.readInt();
    int truncated = in.readInt();
    long tokens = in.readLong();
    long targets = in.readLong();
    int ending = in.readInt();
    int pairs = in.readInt();
    int count = in.readUnsignedByte();
    List<Report.Dropped> dropped = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      dropped.add(new Report.Dropped(in.readUTF(), in.readInt(), in.readUTF()));
    }
    return new Report(files, read, truncated, tokens, targets, ending, pairs, List.copyOf(dropped));
  }
}
