package dev.oribi.data;

import com.github.luben.zstd.Zstd;
import dev.oribi.OribiException;
import io.airlift.compress.lz4.Lz4Decompressor;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.zip.GZIPInputStream;
import org.apache.parquet.bytes.BytesInput;
import org.apache.parquet.compression.CompressionCodecFactory;
import org.apache.parquet.hadoop.metadata.CompressionCodecName;
import org.xerial.snappy.Snappy;

/** Unpacks the pages of Parquet. A page says how long it is unpacked: no more memory is taken, and a lie is an error. */
final class ParquetCodecs implements CompressionCodecFactory {
  private static final int MAX_PAGE = 512 << 20;

  @FunctionalInterface
  private interface Unpack {
    int into(byte[] packed, byte[] unpacked) throws IOException;
  }

  @Override
  public BytesInputDecompressor getDecompressor(CompressionCodecName codec) {
    return switch (codec) {
      case UNCOMPRESSED -> new Pages((packed, to) -> {
        System.arraycopy(packed, 0, to, 0, Math.min(packed.length, to.length));
        return packed.length;
      });
      case SNAPPY -> new Pages((packed, to) ->
          Snappy.uncompressedLength(packed) == to.length ? Snappy.uncompress(packed, 0, packed.length, to, 0) : -1);
      case ZSTD -> new Pages((packed, to) -> {
        long n = Zstd.decompress(to, packed);
        return Zstd.isError(n) ? -1 : (int) n;
      });
      case GZIP -> new Pages(ParquetCodecs::gunzip);
      case LZ4_RAW -> new Pages((packed, to) -> new Lz4Decompressor().decompress(packed, 0, packed.length, to, 0, to.length));
      default -> throw new OribiException("The Parquet file is packed with " + codec + ", which is not supported: write it with zstd,"
          + " snappy, gzip or lz4_raw.");
    };
  }

  private static int gunzip(byte[] packed, byte[] to) throws IOException {
    try (GZIPInputStream in = new GZIPInputStream(new ByteArrayInputStream(packed))) {
      int n = in.readNBytes(to, 0, to.length);
      return in.read() < 0 ? n : -1;
    }
  }

  @Override
  public BytesInputCompressor getCompressor(CompressionCodecName codec) {
    throw new UnsupportedOperationException("Parquet is only read");
  }

  @Override
  public void release() {}

  private record Pages(Unpack unpack) implements BytesInputDecompressor {
    @Override
    public BytesInput decompress(BytesInput packed, int size) throws IOException {
      return BytesInput.from(unpacked(packed.toByteArray(), size));
    }

    @Override
    public void decompress(ByteBuffer packed, int packedSize, ByteBuffer to, int size) throws IOException {
      byte[] bytes = new byte[Math.min(packedSize, packed.remaining())];
      packed.get(bytes);
      to.put(unpacked(bytes, size));
    }

    private byte[] unpacked(byte[] packed, int size) throws IOException {
      if (size < 0 || size > MAX_PAGE) {
        throw new IOException("a page of " + size + " bytes");
      }
      byte[] to = new byte[size];
      int n;
      try {
        n = unpack.into(packed, to);
      } catch (RuntimeException e) {
        throw new IOException("a page cannot be unpacked: " + e.getMessage(), e);
      }
      if (n != size) {
        throw new IOException("a page that says it has " + size + " bytes has others");
      }
      return to;
    }

    @Override
    public void release() {}
  }
}
