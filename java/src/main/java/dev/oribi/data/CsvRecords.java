package dev.oribi.data;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import de.siegmar.fastcsv.reader.CsvParseException;
import de.siegmar.fastcsv.reader.CsvReader;
import de.siegmar.fastcsv.reader.CsvRecord;
import de.siegmar.fastcsv.reader.CsvRecordHandler;
import dev.oribi.OribiException;
import dev.oribi.data.RecordReader.Record;
import dev.oribi.text.OneLine;
import java.io.IOException;
import java.io.Reader;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * Rows of CSV or of values with tabs between them. The first row is the heading; if all columns are named by their numbers ({@code
 * prompt=1,completion=2}) there is none. A heading with a semicolon or a tab and no comma says what stands between the values.
 */
final class CsvRecords {
  private static final int MAX_FIELDS = 1 << 14;
  /** Characters of a value and of a row: as of a line of JSONL. */
  private static final int MAX_SIZE = RecordReader.MAX_LINE;

  private final Path file;
  private final Consumer<Record> sink;
  private List<String> heading;

  private CsvRecords(Path file, List<String> heading, Consumer<Record> sink) {
    this.file = file;
    this.heading = heading;
    this.sink = sink;
  }

  static void read(Path file, boolean tabs, Map<String, String> columns, Consumer<Record> sink) throws IOException {
    boolean numbered = !columns.isEmpty() && columns.values().stream().allMatch(name -> name.matches("[1-9][0-9]{0,4}"));
    CsvRecords records = new CsvRecords(file, numbered ? List.of() : null, sink);
    char separator = tabs ? '\t' : separator(file);
    CsvRecordHandler handler = CsvRecordHandler.builder().maxFields(MAX_FIELDS).maxFieldSize(MAX_SIZE).maxRecordSize(MAX_SIZE).build();
    try (Reader reader = RecordReader.characters(file);
        CsvReader<CsvRecord> rows = CsvReader.builder().fieldSeparator(separator).maxBufferSize(MAX_SIZE)
            .allowExtraFields(true).allowMissingFields(true).allowUnclosedQuote(false).build(handler, reader)) {
      rows.forEach(records::row);
    } catch (CsvParseException e) {
      throw new OribiException(file + ": the rows of values cannot be told apart (" + cause(e) + "): is a quotation mark left open?", e);
    } catch (java.io.UncheckedIOException e) {
      throw e.getCause();
    }
  }

  private static String cause(CsvParseException e) {
    return OneLine.of(e.getCause() == null ? e.getMessage() : e.getMessage() + ": " + e.getCause().getMessage());
  }

  private static char separator(Path file) throws IOException {
    try (Reader reader = RecordReader.characters(file)) {
      boolean semicolon = false;
      boolean tab = false;
      for (int c = reader.read(), n = 0; c >= 0 && c != '\n' && n < 1 << 16; c = reader.read(), n++) {
        if (c == ',') {
          return ',';
        }
        semicolon |= c == ';';
        tab |= c == '\t';
      }
      return semicolon ? ';' : tab ? '\t' : ',';
    }
  }

  private void row(CsvRecord row) {
    String source = file + ":" + row.getStartingLineNumber();
    if (heading == null) {
      heading = List.copyOf(row.getFields());
      if (new HashSet<>(heading).size() < heading.size()) {
        throw new OribiException(source + ": the heading names a column twice: " + OneLine.of(String.join(", ", heading)) + ".");
      }
      return;
    }
    List<String> names = heading.isEmpty() ? IntStream.rangeClosed(1, row.getFieldCount()).mapToObj(String::valueOf).toList() : heading;
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    for (int i = 0; i < Math.min(names.size(), row.getFieldCount()); i++) {
      json.put(names.get(i), row.getField(i));
    }
    if (row.getFieldCount() != names.size()) {
      json.put(BROKEN, "the row has " + row.getFieldCount() + " values but the heading names " + names.size() + " columns");
    }
    sink.accept(new Record(source, json, null, null));
  }

  /** A key that says why a row cannot be used; no column can have it as its name is empty. */
  static final String BROKEN = "\u0000broken";
}
