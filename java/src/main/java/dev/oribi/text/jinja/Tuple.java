package dev.oribi.text.jinja;

import java.util.AbstractList;
import java.util.List;

/** A list that cannot change and is not equal to a list that can. */
final class Tuple extends AbstractList<Object> {
  private final Object[] items;

  Tuple(Object... items) {
    this.items = items.clone();
  }

  Tuple(List<Object> items) {
    this.items = items.toArray();
  }

  @Override
  public Object get(int i) {
    return items[i];
  }

  @Override
  public int size() {
    return items.length;
  }
}
