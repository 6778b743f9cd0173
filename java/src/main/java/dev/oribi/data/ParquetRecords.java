package dev.oribi.data;

import dev.oribi.OribiException;
import dev.oribi.data.RecordReader.Record;
import dev.oribi.text.OneLine;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.Consumer;
import org.apache.parquet.ParquetReadOptions;
import org.apache.parquet.column.page.PageReadStore;
import org.apache.parquet.conf.PlainParquetConfiguration;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.example.data.simple.convert.GroupRecordConverter;
import org.apache.parquet.hadoop.ParquetFileReader;
import org.apache.parquet.hadoop.metadata.BlockMetaData;
import org.apache.parquet.hadoop.metadata.ColumnChunkMetaData;
import org.apache.parquet.io.ColumnIOFactory;
import org.apache.parquet.io.LocalInputFile;
import org.apache.parquet.io.MessageColumnIO;
import org.apache.parquet.io.RecordReader;
import org.apache.parquet.schema.MessageType;

/**
 * Rows of Parquet, by Apache's own reader without Hadoop. The file's own numbers are checked before the reader believes them, and
 * whatever it throws at a broken file becomes one line.
 */
final class ParquetRecords {
  private static final byte[] MAGIC = {'P', 'A', 'R', '1'};
  private static final int MAX_FOOTER = 64 << 20;
  /** A group of rows is held in memory; writers make them of 128 MiB or so. */
  private static final long MAX_GROUP = 1L << 30;

  private ParquetRecords() {}

  static boolean is(Path file) throws IOException {
    try (RandomAccessFile in = new RandomAccessFile(file.toFile(), "r")) {
      byte[] first = new byte[MAGIC.length];
      return in.length() >= MAGIC.length && in.read(first) == first.length && Arrays.equals(first, MAGIC);
    }
  }

  static void read(Path file, Consumer<Record> sink) throws IOException {
    checkFooter(file);
    RuntimeException[] thrown = new RuntimeException[1];
    try {
      readGroups(file, record -> {
        try {
          sink.accept(record);
        } catch (RuntimeException e) {
          thrown[0] = e;
          throw e;
        }
      });
    } catch (OribiException e) {
      throw e;
    } catch (IOException | RuntimeException | LinkageError | StackOverflowError | OutOfMemoryError | AssertionError e) {
      if (e == thrown[0]) {
        throw thrown[0];
      }
      // What it throws depends on where the file is broken; the first line of its message tells most.
      String why = e instanceof OutOfMemoryError ? "a page does not fit into memory" : OneLine.of(String.valueOf(e.getMessage()).lines().findFirst().orElse(""));
      throw new OribiException(file + " is Parquet that cannot be read (" + e.getClass().getSimpleName() + ": " + why
          + "): copy it again.", e);
    }
  }

  private static void checkFooter(Path file) throws IOException {
    try (RandomAccessFile in = new RandomAccessFile(file.toFile(), "r")) {
      long size = in.length();
      byte[] tail = new byte[8];
      if (size < 12) {
        throw new OribiException(file + " is Parquet of " + size + " bytes: it was not copied whole.");
      }
      in.seek(size - tail.length);
      in.readFully(tail);
      long footer = Integer.toUnsignedLong(tail[0] & 0xFF | (tail[1] & 0xFF) << 8 | (tail[2] & 0xFF) << 16 | (tail[3] & 0xFF) << 24);
      if (!Arrays.equals(tail, 4, 8, MAGIC, 0, 4) || footer > size - 12) {
        throw new OribiException(file + " is Parquet without its end: it was not copied whole.");
      }
      if (footer > MAX_FOOTER) {
        throw new OribiException(file + " is Parquet with " + footer + " bytes of description, more than any data needs.");
      }
    }
  }

  private static void readGroups(Path file, Consumer<Record> sink) throws IOException {
    ParquetReadOptions options = ParquetReadOptions.builder(new PlainParquetConfiguration()).withCodecFactory(new ParquetCodecs())
        .usePageChecksumVerification(true).build();
    long size = Files.size(file);
    try (ParquetFileReader reader = ParquetFileReader.open(new LocalInputFile(file), options)) {
      reader.getRowGroups().forEach(group -> checkGroup(file, group, size));
      MessageType schema = reader.getFileMetaData().getSchema();
      ParquetValues values = new ParquetValues(file, schema);
      MessageColumnIO columns = new ColumnIOFactory().getColumnIO(schema);
      long row = 0;
      for (PageReadStore pages = reader.readNextRowGroup(); pages != null; pages = reader.readNextRowGroup()) {
        RecordReader<Group> records = columns.getRecordReader(pages, new GroupRecordConverter(schema));
        for (long i = 0; i < pages.getRowCount(); i++) {
          sink.accept(new Record(file + "#" + row++, values.row(records.read()), null, null));
        }
      }
    }
  }

  private static void checkGroup(Path file, BlockMetaData group, long size) {
    long bytes = 0;
    for (ColumnChunkMetaData column : group.getColumns()) {
      long begin = column.getStartingPos();
      boolean inside = begin >= 4 && column.getTotalSize() >= 0 && column.getTotalSize() <= size && begin <= size - column.getTotalSize();
      // Each value takes a bit at least, unless it repeats; a page of repeated values is some bytes.
      boolean counted = column.getValueCount() >= 0 && column.getValueCount() <= MAX_GROUP;
      if (!inside || !counted || column.getTotalUncompressedSize() < 0) {
        throw new OribiException(file + " is Parquet whose description does not fit the file: copy it again.");
      }
      bytes += Math.min(column.getTotalUncompressedSize(), MAX_GROUP + 1);
      if (bytes > MAX_GROUP) {
        throw new OribiException(file + " has a group of rows of more than " + (MAX_GROUP >> 20) + " MiB, which is held in memory as a"
            + " whole: write it again with smaller groups.");
      }
    }
    long values = group.getColumns().stream().mapToLong(ColumnChunkMetaData::getValueCount).max().orElse(0);
    if (group.getRowCount() < 0 || group.getRowCount() > values) {
      throw new OribiException(file + " is Parquet that claims more rows than it has values: copy it again.");
    }
  }
}
