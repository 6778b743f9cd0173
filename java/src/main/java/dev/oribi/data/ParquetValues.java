package dev.oribi.data;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.text.OneLine;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.apache.parquet.example.data.Group;
import org.apache.parquet.schema.GroupType;
import org.apache.parquet.schema.LogicalTypeAnnotation;
import org.apache.parquet.schema.MessageType;
import org.apache.parquet.schema.Type;

/** Values of Parquet as JSON: lists as arrays, structures and maps as objects, text as strings, numbers as numbers. */
final class ParquetValues {
  private static final JsonNodeFactory JSON = JsonNodeFactory.instance;
  private static final int MAX_DEPTH = 64;

  private final Path file;
  private final MessageType schema;

  ParquetValues(Path file, MessageType schema) {
    this.file = file;
    this.schema = schema;
    if (depth(schema, 0) > MAX_DEPTH) {
      throw new OribiException(file + " is Parquet with values nested more than " + MAX_DEPTH + " deep.");
    }
  }

  private static int depth(Type type, int above) {
    int deepest = above;
    if (!type.isPrimitive() && above <= MAX_DEPTH) {
      for (Type field : type.asGroupType().getFields()) {
        deepest = Math.max(deepest, depth(field, above + 1));
      }
    }
    return deepest;
  }

  JsonNode row(Group row) {
    return structure(row, schema);
  }

  private ObjectNode structure(Group group, GroupType type) {
    ObjectNode json = JSON.objectNode();
    for (int f = 0; f < type.getFieldCount(); f++) {
      json.set(type.getFieldName(f), field(group, type.getType(f), f));
    }
    return json;
  }

  private JsonNode field(Group group, Type type, int f) {
    int count = group.getFieldRepetitionCount(f);
    if (type.isRepetition(Type.Repetition.REPEATED)) {
      ArrayNode list = JSON.arrayNode();
      for (int i = 0; i < count; i++) {
        list.add(value(group, type, f, i));
      }
      return list;
    }
    return count == 0 ? JSON.nullNode() : value(group, type, f, 0);
  }

  private JsonNode value(Group group, Type type, int f, int i) {
    if (type.isPrimitive()) {
      return primitive(group, type, f, i);
    }
    Group inner = group.getGroup(f, i);
    GroupType structure = type.asGroupType();
    LogicalTypeAnnotation kind = type.getLogicalTypeAnnotation();
    if (kind instanceof LogicalTypeAnnotation.ListLogicalTypeAnnotation && structure.getFieldCount() == 1) {
      return list(inner, structure);
    }
    if (kind instanceof LogicalTypeAnnotation.MapLogicalTypeAnnotation && structure.getFieldCount() == 1) {
      return map(inner, structure);
    }
    return structure(inner, structure);
  }

  /** A list is a group of one repeated group of one value; older writers leave the inner group out. */
  private JsonNode list(Group group, GroupType type) {
    Type repeated = type.getType(0);
    boolean wrapped = !repeated.isPrimitive() && repeated.asGroupType().getFieldCount() == 1 && !repeated.getName().equals("array")
        && !repeated.getName().endsWith("_tuple");
    ArrayNode list = JSON.arrayNode();
    for (int i = 0; i < group.getFieldRepetitionCount(0); i++) {
      list.add(wrapped ? field(group.getGroup(0, i), repeated.asGroupType().getType(0), 0) : value(group, repeated, 0, i));
    }
    return list;
  }

  private JsonNode map(Group group, GroupType type) {
    ObjectNode map = JSON.objectNode();
    GroupType entry = type.getType(0).asGroupType();
    for (int i = 0; i < group.getFieldRepetitionCount(0); i++) {
      Group pair = group.getGroup(0, i);
      map.set(pair.getValueToString(0, 0), entry.getFieldCount() > 1 ? field(pair, entry.getType(1), 1) : JSON.nullNode());
    }
    return map;
  }

  private JsonNode primitive(Group group, Type type, int f, int i) {
    return switch (type.asPrimitiveType().getPrimitiveTypeName()) {
      case BOOLEAN -> JSON.booleanNode(group.getBoolean(f, i));
      case INT32 -> JSON.numberNode(group.getInteger(f, i));
      case INT64 -> number(group.getLong(f, i));
      case FLOAT -> JSON.numberNode(group.getFloat(f, i));
      case DOUBLE -> JSON.numberNode(group.getDouble(f, i));
      case BINARY -> JSON.textNode(text(type, group.getBinary(f, i).toByteBuffer()));
      default -> JSON.textNode(group.getValueToString(f, i));
    };
  }

  private String text(Type type, ByteBuffer bytes) {
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
    } catch (CharacterCodingException e) {
      throw new OribiException(file + ": the column " + OneLine.of(type.getName()) + " has bytes that are not UTF-8 text.", e);
    }
  }

  /** Token ids are often stored as 64 bits: what fits an int is one. */
  private static JsonNode number(long value) {
    return value == (int) value ? JSON.numberNode((int) value) : JSON.numberNode(value);
  }
}
