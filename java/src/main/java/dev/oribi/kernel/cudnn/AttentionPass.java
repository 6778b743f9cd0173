package dev.oribi.kernel.cudnn;

import dev.oribi.kernel.cudnn.Graph.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.cuda.cudnn.cudnnContext;

/**
 * The forward or the backward pass of one {@link AttentionSpec}: its plan, and where its parts lie in a workspace. A
 * workspace begins with the table of offsets and the lengths of the sequences, which the caller writes before each
 * execution, since other operations use the same memory in between.
 */
public final class AttentionPass implements AutoCloseable {
  private static final long ALIGNMENT = 256;

  private final AttentionGraph graph;
  private final Plan plan;

  /** A part of the workspace that a tensor of the graph is bound to: {@code perRow} bytes for each packed row. */
  private record Part(Tensor tensor, long perRow) {}

  private final List<Part> parts = new ArrayList<>();

  /** Builds the plan, on first use of a kind of kernel for a second or so. */
  public static AttentionPass forward(AttentionSpec spec, cudnnContext handle) {
    return new AttentionPass(AttentionGraph.forward(spec), handle);
  }

  public static AttentionPass backward(AttentionSpec spec, cudnnContext handle) {
    return new AttentionPass(AttentionGraph.backward(spec), handle);
  }

  private AttentionPass(AttentionGraph graph, cudnnContext handle) {
    this.graph = graph;
    plan = new Plan(graph.graph, handle);
    AttentionSpec spec = graph.spec;
    add(graph.rowSum, 4 * spec.heads());
    add(graph.dqSum, 4 * (spec.packed() ? spec.ldQ() : spec.heads() * spec.headDim()));
    add(graph.dkHeads, 2 * spec.heads() * spec.headDim());
    add(graph.dvHeads, 2 * spec.heads() * spec.headDim());
    if (graph.dk != null && spec.stagesKeyGradients()) {
      add(graph.dk, 2 * spec.keyGradientRow());
      add(graph.dv, 2 * spec.keyGradientRow());
    }
  }

  private void add(Tensor tensor, long perRow) {
    if (tensor != null) {
      parts.add(new Part(tensor, perRow));
    }
  }

  public AttentionSpec spec() {
    return graph.spec;
  }

  /** Row strides of the offset arrays, in their order in the table; empty when not packed. */
  public long[] strides() {
    return graph.offsets.keySet().stream().mapToLong(Long::longValue).toArray();
  }

  /** Elements from one offset array of the table to the next. */
  public long pitch() {
    return (spec().slots() + 1 + 7) / 8 * 8;
  }

  /** Bytes of the table, after which the lengths begin. */
  public long tableBytes() {
    return align(8 * pitch() * graph.offsets.size());
  }

  private long lengthsBytes() {
    return spec().packed() ? align(4 * spec().slots()) : 0;
  }

  /** Bytes of workspace for a batch of {@code rows} rows. */
  public long bytes(long rows) {
    return at(rows, null) + align(plan.workspace());
  }

  /** Where dK and dV are in the workspace after the backward pass, if they are staged there. */
  public long[] keyGradientsAt(long rows) {
    return new long[] {at(rows, graph.dk), at(rows, graph.dv)};
  }

  /** Distance of a part from the beginning of the workspace; null: that of the end of all. */
  private long at(long rows, Tensor tensor) {
    long at = tableBytes() + lengthsBytes();
    for (Part part : parts) {
      if (part.tensor == tensor) {
        break;
      }
      at += align(part.perRow * rows);
    }
    return at;
  }

  /** o =, lse = */
  public void forward(long workspace, long rows, long o, long lse, long q, long k, long v) {
    long[] addresses = graph.graph.addresses();
    bind(addresses, graph.o, o);
    bind(addresses, graph.lse, lse);
    inputs(addresses, q, k, v);
    execute(addresses, workspace, rows);
  }

  /** dq =, dk =, dv = */
  public void backward(
      long workspace, long rows, long dq, long dk, long dv, long o, long lse, long dOut, long q, long k, long v) {
    long[] addresses = graph.graph.addresses();
    bind(addresses, graph.dq, dq);
    bind(addresses, graph.dk, dk);
    bind(addresses, graph.dv, dv);
    bind(addresses, graph.o, o);
    bind(addresses, graph.lse, lse);
    bind(addresses, graph.dOut, dOut);
    inputs(addresses, q, k, v);
    execute(addresses, workspace, rows);
  }

  private void inputs(long[] addresses, long q, long k, long v) {
    bind(addresses, graph.q, q);
    bind(addresses, graph.k, k);
    bind(addresses, graph.v, v);
  }

  private void execute(long[] addresses, long workspace, long rows) {
    long at = workspace;
    for (Tensor offsets : graph.offsets.values()) {
      bind(addresses, offsets, at);
      at += 8 * pitch();
    }
    at = workspace + tableBytes();
    if (graph.lengths != null) {
      bind(addresses, graph.lengths, at);
    }
    at += lengthsBytes();
    for (Part part : parts) {
      bind(addresses, part.tensor, at);
      at += align(part.perRow * rows);
    }
    plan.execute(addresses, at);
  }

  private static void bind(long[] addresses, Tensor tensor, long address) {
    addresses[tensor.slot()] = address;
  }

  private static long align(long bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  @Override
  public void close() {
    plan.close();
  }
}
