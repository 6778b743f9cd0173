package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.CUDNN_DATA_BFLOAT16;
import static org.bytedeco.cuda.global.cudnn.CUDNN_DATA_HALF;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_ADD;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_CMP_GE;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_CMP_GT;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_CMP_LT;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_DIV;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_EXP;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_IDENTITY;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_LOG;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_LOGICAL_AND;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_MUL;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_SUB;
import static org.bytedeco.cuda.global.cudnn.CUDNN_POINTWISE_TANH_FWD;
import static org.bytedeco.cuda.global.cudnn.CUDNN_REDUCE_TENSOR_ADD;
import static org.bytedeco.cuda.global.cudnn.CUDNN_REDUCE_TENSOR_MAX;

import dev.oribi.kernel.DType;
import dev.oribi.kernel.cudnn.Graph.Tensor;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Causal attention as the composite graph that cuDNN recognises and runs as one fused kernel.
 *
 * <pre>
 * forward    S = scale * Q·Kᵀ;  S = cap * tanh(S / cap);  masks;  m = max S;  e = exp(S - m);  l = sum e
 *            lse = m + log l;   O = (e / l)·V
 * backward   P = exp(S - lse);  dV = Pᵀ·dO;  D = sum dO*O;  dS = P * (dO·Vᵀ - D) * (1 - tanh²) * scale
 *            dK = dSᵀ·Q;  dQ = dS·K
 * </pre>
 *
 * <p>The order of operations, which tensors are transposed views and which are real is what cuDNN's engine matches; another
 * order that means the same gets "no kernel". Derivation: {@code docs/derivations/attention.md}.
 */
final class AttentionGraph {
  final Graph graph = new Graph();
  final AttentionSpec spec;

  /** What both passes bind. */
  Tensor q, k, v, o, lse;

  /** What the backward pass binds besides: gradients, and what lies in the workspace. */
  Tensor dOut, dq, dk, dv, rowSum, dqSum, dkHeads, dvHeads;

  /** Packed only: rows of each sequence, and the offsets of each row stride that occurs. */
  Tensor lengths;

  final Map<Long, Tensor> offsets = new LinkedHashMap<>();

  private final int io;
  private final long[] scoreDims;
  private final long[] scoreStrides;
  private final long[] rowDims;
  private final long[] rowStrides;

  static AttentionGraph forward(AttentionSpec spec) {
    AttentionGraph g = new AttentionGraph(spec, false);
    g.forward();
    return g;
  }

  static AttentionGraph backward(AttentionSpec spec) {
    AttentionGraph g = new AttentionGraph(spec, true);
    g.backward();
    return g;
  }

  private AttentionGraph(AttentionSpec spec, boolean backward) {
    this.spec = spec;
    long s = spec.length();
    long h = spec.heads();
    io = spec.type() == DType.BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    scoreDims = new long[] {spec.slots(), h, s, s};
    scoreStrides = new long[] {h * s * s, s * s, s, 1};
    rowDims = new long[] {spec.slots(), h, s, 1};
    rowStrides = new long[] {s * h, 1, h, 1};
    if (spec.packed()) {
      long[] one = {1, 1, 1, 1};
      lengths = graph.real(Graph.I32, new long[] {spec.slots(), 1, 1, 1}, one, null);
    }
    q = heads(h, spec.ldQ(), false);
    k = heads(spec.kvHeads(), spec.ldK(), true);
    v = heads(spec.kvHeads(), spec.ldV(), backward);
    o = heads(h, spec.ldO(), false);
    lse = graph.real(Graph.F32, rowDims, rowStrides, offsets(h));
    if (backward) {
      dOut = heads(h, spec.ldO(), false);
      dq = heads(h, spec.ldQ(), false);
      dk = heads(spec.kvHeads(), spec.packed() ? spec.keyGradientRow() : spec.ldK(), false);
      dv = heads(spec.kvHeads(), spec.packed() ? spec.keyGradientRow() : spec.ldV(), false);
    }
  }

  /** Rows of {@code count} heads, {@code ld} elements apart; transposed: the view with the head's elements as rows. */
  private Tensor heads(long count, long ld, boolean transposed) {
    long s = spec.length();
    long d = spec.headDim();
    return transposed
        ? graph.real(io, new long[] {spec.slots(), count, d, s}, new long[] {s * ld, d, 1, ld}, offsets(ld))
        : graph.real(io, new long[] {spec.slots(), count, s, d}, new long[] {s * ld, d, ld, 1}, offsets(ld));
  }

  /** Where each sequence begins in an array with {@code stride} elements a row; null when not packed. */
  private Tensor offsets(long stride) {
    if (!spec.packed()) {
      return null;
    }
    long[] dims = {spec.slots() + 1, 1, 1, 1};
    return offsets.computeIfAbsent(stride, x -> graph.real(Graph.I64, dims, new long[] {1, 1, 1, 1}, null));
  }

  private Tensor scores(int type) {
    return graph.virtual(type, scoreDims, scoreStrides);
  }

  private void forward() {
    Tensor s = graph.apply(CUDNN_POINTWISE_MUL, product(q, k), graph.scalar(spec.scale()));
    if (spec.softcap() > 0) {
      Tensor cap = graph.scalar(spec.softcap());
      Tensor x = graph.apply(CUDNN_POINTWISE_DIV, s, cap);
      s = graph.apply(CUDNN_POINTWISE_MUL, graph.apply(CUDNN_POINTWISE_TANH_FWD, x, null), cap);
    }
    s = maskBand(maskLengths(s));
    Tensor max = graph.reduce(CUDNN_REDUCE_TENSOR_MAX, s, rows());
    Tensor e = graph.apply(CUDNN_POINTWISE_EXP, graph.apply(CUDNN_POINTWISE_SUB, s, max), null);
    Tensor sum = graph.reduce(CUDNN_REDUCE_TENSOR_ADD, e, rows());
    graph.apply(CUDNN_POINTWISE_ADD, max, graph.apply(CUDNN_POINTWISE_LOG, sum, null), lse);
    Tensor p = graph.apply(CUDNN_POINTWISE_DIV, e, sum, scores(io));
    graph.matmul(p, v, o, lengths, null, lengths);
  }

  private void backward() {
    sumRows();
    Tensor scale = graph.scalar(spec.scale());
    Tensor cap = null;
    Tensor beforeTanh = null;
    Tensor s = graph.apply(CUDNN_POINTWISE_MUL, product(q, k), scale);
    if (spec.softcap() > 0) {
      cap = graph.scalar(spec.softcap());
      beforeTanh = graph.apply(CUDNN_POINTWISE_DIV, s, cap);
      s = graph.apply(CUDNN_POINTWISE_MUL, graph.apply(CUDNN_POINTWISE_TANH_FWD, beforeTanh, null), cap);
    }
    s = maskBand(graph.apply(CUDNN_POINTWISE_SUB, maskLengths(s), lse));
    Tensor p = graph.apply(CUDNN_POINTWISE_EXP, s, null);
    dvHeads = keyGradient(transposed(p), dOut, dv);

    Tensor ds = graph.apply(CUDNN_POINTWISE_SUB, product(dOut, v), rowSum);
    ds = graph.apply(CUDNN_POINTWISE_MUL, ds, p);
    if (spec.softcap() > 0) {
      ds = graph.tanhBackward(beforeTanh, graph.apply(CUDNN_POINTWISE_MUL, ds, cap));
      ds = graph.apply(CUDNN_POINTWISE_DIV, ds, cap);
    }
    ds = graph.apply(CUDNN_POINTWISE_MUL, ds, scale);
    dkHeads = keyGradient(transposed(ds), q, dk);
    queryGradient(ds);
  }

  /** D = sum of dO * O of each row and head, a real fp32 array laid out as lse. The product with 1 is part of the pattern. */
  private void sumRows() {
    long s = spec.length();
    long h = spec.heads();
    long d = spec.headDim();
    Tensor product = graph.virtual(Graph.F32, dOut.dims(), new long[] {h * s * d, s * d, h * d, 1});
    graph.apply(CUDNN_POINTWISE_MUL, dOut, o, product);
    Tensor sum = graph.reduce(CUDNN_REDUCE_TENSOR_ADD, product, rows());
    rowSum = graph.real(Graph.F32, rowDims, rowStrides, offsets(h));
    graph.apply(CUDNN_POINTWISE_MUL, sum, graph.scalar(1), rowSum);
  }

  /**
   * dK or dV: the gradient of each query head, then the sum over the heads of a group. When sequences are packed the former is
   * a real array, so that it takes room for the rows there are and not for slots * length of them. Its offsets must be those
   * of the sum: cuDNN multiplies them by the group. Others are read as if they were those, and the array is overrun.
   */
  private Tensor keyGradient(Tensor left, Tensor right, Tensor out) {
    if (spec.group() == 1) {
      graph.matmul(left, right, out, lengths, null, lengths);
      return null;
    }
    long s = spec.length();
    long h = spec.heads();
    long d = spec.headDim();
    long[] dims = {spec.slots(), h, s, d};
    Tensor each;
    if (spec.packed()) {
      each = graph.real(io, dims, new long[] {s * h * d, d, h * d, 1}, offsets(spec.keyGradientRow()));
    } else {
      each = graph.virtual(io, dims, new long[] {h * s * d, s * d, d, 1});
    }
    graph.matmul(left, right, each, lengths, null, lengths);
    graph.reduce(CUDNN_REDUCE_TENSOR_ADD, each, out);
    return spec.packed() ? each : null;
  }

  /**
   * dQ, summed in fp32 by several blocks at once, in any order; or, to be the same each time, by one block in order. The fp32
   * array of packed sequences must lie as q does, fused rows and all: cuDNN finds its rows by the offsets of q.
   */
  private void queryGradient(Tensor ds) {
    long s = spec.length();
    long h = spec.heads();
    long d = spec.headDim();
    long[] dims = {spec.slots(), spec.kvHeads(), s, d};
    long[] strides = {s * spec.ldK(), d, spec.ldK(), 1};
    Tensor keys = graph.reshape(k, graph.virtual(io, dims, strides, offsets(spec.ldK())));
    if (spec.deterministic()) {
      graph.matmul(ds, keys, dq, lengths, null, lengths);
      return;
    }
    long[] dense = {h * s * d, s * d, d, 1};
    dqSum = graph.real(Graph.F32, q.dims(), spec.packed() ? q.strides() : dense, offsets(spec.ldQ()));
    graph.matmul(ds, keys, dqSum, lengths, null, lengths);
    graph.apply(CUDNN_POINTWISE_IDENTITY, dqSum, null, dq);
  }

  private Tensor product(Tensor a, Tensor b) {
    return graph.matmul(a, b, scores(Graph.F32), lengths, lengths, null);
  }

  private Tensor rows() {
    long s = spec.length();
    return graph.virtual(Graph.F32, rowDims, new long[] {spec.heads() * s, s, 1, 1});
  }

  private Tensor transposed(Tensor x) {
    long s = spec.length();
    long h = spec.heads();
    return graph.reshape(x, graph.virtual(io, new long[] {spec.slots(), h, s, s}, new long[] {h * s * s, s * s, 1, s}));
  }

  /** Rows and columns past a sequence's end. */
  private Tensor maskLengths(Tensor s) {
    if (!spec.packed()) {
      return s;
    }
    Tensor row = graph.index(2, s, Graph.I32);
    Tensor column = graph.index(3, s, Graph.I32);
    Tensor inRow = graph.test(CUDNN_POINTWISE_CMP_LT, row, lengths);
    Tensor inColumn = graph.test(CUDNN_POINTWISE_CMP_LT, column, lengths);
    return graph.mask(s, graph.test(CUDNN_POINTWISE_LOGICAL_AND, inRow, inColumn));
  }

  /** Keys after the query, and those that have left its window: column + window > row. */
  private Tensor maskBand(Tensor s) {
    Tensor row = graph.index(2, s, Graph.F32);
    Tensor column = graph.index(3, s, Graph.F32);
    Tensor causal = graph.mask(s, graph.test(CUDNN_POINTWISE_CMP_GE, row, column));
    if (spec.window() == 0) {
      return causal;
    }
    Tensor r = graph.index(2, causal, Graph.F32);
    Tensor c = graph.index(3, causal, Graph.F32);
    Tensor reach = graph.apply(CUDNN_POINTWISE_ADD, c, graph.scalar(spec.window()));
    return graph.mask(causal, graph.test(CUDNN_POINTWISE_CMP_GT, reach, r));
  }
}
