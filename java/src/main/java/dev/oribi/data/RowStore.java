package dev.oribi.data;

import java.util.List;

/** Rows by their number, in memory or in a file. Safe for use by many threads. */
interface RowStore {
  int size();

  Row row(int i);

  /** Tokens of a row, without reading it. */
  int length(int i);

  /** Rows that are in memory. */
  record Memory(List<Row> rows) implements RowStore {
    public Memory {
      rows = List.copyOf(rows);
    }

    @Override
    public int size() {
      return rows.size();
    }

    @Override
    public Row row(int i) {
      return rows.get(i);
    }

    @Override
    public int length(int i) {
      return rows.get(i).length();
    }
  }

  /** Some rows of another store, in an order of their own. */
  record Part(RowStore all, int[] rows) implements RowStore {
    @Override
    public int size() {
      return rows.length;
    }

    @Override
    public Row row(int i) {
      return all.row(rows[i]);
    }

    @Override
    public int length(int i) {
      return all.length(rows[i]);
    }
  }
}
