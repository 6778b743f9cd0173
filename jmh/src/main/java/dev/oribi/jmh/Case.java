package dev.oribi.jmh;

import dev.oribi.device.Mem;
import dev.oribi.gguf.GgmlType;
import dev.oribi.jmh.Bench.Work;
import dev.oribi.kernel.AdamwHyper;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.AttentionShape;
import dev.oribi.kernel.CudnnAttention;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Int8;
import dev.oribi.kernel.KernelAttention;
import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.Kernels.NormWeight;
import dev.oribi.kernel.Kernels.Activation;
import dev.oribi.kernel.LoraKernels;
import dev.oribi.kernel.LoraShape;
import dev.oribi.kernel.Nf4;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;

/** Every kernel of {@code oribi.h} at the {@link Sizes} of a model, with {@link Bench#n} tokens. */
public enum Case {
  CAST(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.raw(4L * b.n * C());
    return new Work(() -> b.kernels.cast(y, x, b.n * C(), DType.F32, b.type), b.n * C() * (4.0 + b.type.bytes()), 0);
  }),
  CAST_ROWS(b -> {
    Mem x = b.normals(b.n * QKV());
    Mem y = b.raw(4L * b.n * C());
    return new Work(() -> b.kernels.castRows(y, x, b.n, C(), C(), QKV(), DType.F32, b.type, false),
        b.n * C() * (4.0 + b.type.bytes()), 0);
  }),
  ADD(b -> {
    Mem x = b.normals(b.n * C());
    Mem z = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.add(y, x, z, b.n * C(), b.type), 3 * bytes(b, C()), b.n * C());
  }),
  SCALE(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.scale(y, x, b.n * C(), 0.5f, 0, b.type), 2 * bytes(b, C()), b.n * C());
  }),
  BIAS_ADD(b -> {
    Mem y = b.normals(b.n * QKV());
    Mem bias = b.normals(QKV());
    return new Work(() -> b.kernels.biasAdd(y, bias, b.n, QKV(), QKV(), b.type), 2 * bytes(b, QKV()), b.n * QKV());
  }),
  BIAS_BACKWARD(b -> {
    Mem dy = b.normals(b.n * QKV());
    Mem db = b.floats(QKV(), 0);
    Mem space = b.raw(Kernels.biasBackwardWorkspace(b.n, QKV()));
    return new Work(() -> b.kernels.biasBackward(db, dy, space, b.n, QKV(), QKV(), b.type), bytes(b, QKV()), b.n * QKV());
  }),
  FILL(b -> {
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.fill(y, b.n * C(), 0, b.type), bytes(b, C()), 0);
  }),
  GATHER_ROWS(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    Mem index = b.counting(b.n, b.n);
    return new Work(() -> b.kernels.gatherRows(y, x, index, b.n, b.n, C(), C(), C(), b.type), 2 * bytes(b, C()), 0);
  }),
  SCATTER_ROWS(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    Mem index = b.counting(b.n, b.n);
    return new Work(() -> b.kernels.scatterRows(y, x, index, b.n, b.n, C(), C(), C(), b.type), 2 * bytes(b, C()), 0);
  }),
  RANDOM_UNIFORM(b -> {
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.randomUniform(y, b.n * C(), -1, 1, 1, 1, b.type), bytes(b, C()), 0);
  }),
  RANDOM_NORMAL(b -> {
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.randomNormal(y, b.n * C(), 0, 1, 1, 1, b.type), bytes(b, C()), 0);
  }),
  DROPOUT(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    return new Work(() -> b.kernels.dropout(y, x, b.n * C(), 0.1f, 1, 1, false, b.type), 2 * bytes(b, C()), b.n * C());
  }),
  EMBEDDING_FORWARD(b -> {
    Mem table = b.normals(ROWS() * C());
    Mem y = b.normals(b.n * C());
    Mem ids = b.counting(b.n, ROWS());
    return new Work(() -> b.kernels.embeddingForward(y, table, ids, b.n, C(), ROWS(), b.type), 2 * bytes(b, C()), 0);
  }),
  EMBEDDING_BACKWARD(b -> {
    Mem table = b.floats(ROWS() * C(), 0);
    Mem dy = b.normals(b.n * C());
    Mem ids = b.counting(b.n, ROWS());
    return new Work(() -> b.kernels.embeddingBackward(table, dy, ids, b.n, C(), ROWS(), b.type),
        bytes(b, C()) + 8.0 * b.n * C(), b.n * C());
  }),
  RMS_NORM_FORWARD(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    Mem w = b.normals(C());
    Mem rstd = b.floats(b.n, 0);
    return new Work(() -> b.kernels.rmsNormForward(y, rstd, x, w, b.n, C(), 1e-5f, NormWeight.PLAIN, b.type), 2 * bytes(b, C()), 4.0 * b.n * C());
  }),
  ADD_RMS_NORM_FORWARD(b -> {
    Mem x = b.normals(b.n * C());
    Mem delta = b.normals(b.n * C());
    Mem r = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    Mem w = b.normals(C());
    Mem rstd = b.floats(b.n, 0);
    return new Work(() -> b.kernels.addRmsNormForward(r, y, rstd, x, delta, w, b.n, C(), 1e-5f, NormWeight.PLAIN, b.type),
        4 * bytes(b, C()), 5.0 * b.n * C());
  }),
  RMS_NORM_BACKWARD(b -> {
    Mem x = b.normals(b.n * C());
    Mem dy = b.normals(b.n * C());
    Mem dx = b.normals(b.n * C());
    Mem w = b.normals(C());
    Mem dw = b.floats(C(), 0);
    Mem rstd = b.floats(b.n, 1);
    Mem space = b.raw(Kernels.rmsNormBackwardWorkspace(b.n, C()));
    return new Work(() -> b.kernels.rmsNormBackward(dx, dw, rstd, dy, x, w, space, b.n, C(), false, NormWeight.PLAIN, b.type),
        3 * bytes(b, C()), 8.0 * b.n * C());
  }),
  HEAD_NORM_FORWARD(b -> {
    Mem x = b.normals(b.n * C());
    Mem y = b.normals(b.n * C());
    Mem w = b.normals(D());
    Mem rstd = b.floats((long) b.n * H(), 0);
    return new Work(() -> b.kernels.headNormForward(y, rstd, x, w, b.n, H(), D(), C(), C(), 1e-6f, NormWeight.PLAIN, b.type),
        2 * bytes(b, C()), 4.0 * b.n * C());
  }),
  HEAD_NORM_BACKWARD(b -> {
    Mem x = b.normals(b.n * C());
    Mem dy = b.normals(b.n * C());
    Mem dx = b.normals(b.n * C());
    Mem w = b.normals(D());
    Mem dw = b.floats(D(), 0);
    Mem rstd = b.floats((long) b.n * H(), 1);
    Mem space = b.raw(Kernels.headNormBackwardWorkspace(b.n, H(), D()));
    return new Work(() -> b.kernels.headNormBackward(dx, dw, rstd, dy, x, w, space, b.n, H(), D(), C(), C(), C(), NormWeight.PLAIN, b.type),
        3 * bytes(b, C()), 8.0 * b.n * C());
  }),
  ROPE(b -> {
    Mem qkv = b.normals(b.n * QKV());
    Mem k = qkv.slice(C() * b.type.bytes(), qkv.bytes() - C() * b.type.bytes());
    Mem cos = b.floats(b.n * D() / 2, 0.6f);
    Mem sin = b.floats(b.n * D() / 2, 0.8f);
    Mem positions = b.counting(b.n, b.n);
    return new Work(() -> b.kernels.rope(qkv, k, cos, sin, positions, b.n, H(), KV(), D(), D(), QKV(), b.n, false, b.type),
        2 * bytes(b, (H() + KV()) * D()), 3.0 * b.n * (H() + KV()) * D());
  }),
  GLU_FORWARD(b -> {
    Mem gu = b.normals(2 * b.n * F());
    Mem f = b.normals(b.n * F());
    return new Work(() -> b.kernels.gluForward(f, gu, b.n, F(), Activation.SILU, b.type), 3 * bytes(b, F()), 6.0 * b.n * F());
  }),
  GLU_BACKWARD(b -> {
    Mem gu = b.normals(2 * b.n * F());
    Mem df = b.normals(b.n * F());
    Mem dgu = b.normals(2 * b.n * F());
    return new Work(() -> b.kernels.gluBackward(dgu, null, df, gu, b.n, F(), Activation.SILU, b.type), 5 * bytes(b, F()), 12.0 * b.n * F());
  }),
  ATTENTION_FORWARD(b -> attention(b, Case::own, false)),
  ATTENTION_BACKWARD(b -> attention(b, Case::own, true)),
  ATTENTION_DECODE(Case::decode),
  CUDNN_ATTENTION_FORWARD(b -> attention(b, Case::cudnn, false)),
  CUDNN_ATTENTION_BACKWARD(b -> attention(b, Case::cudnn, true)),
  CROSS_ENTROPY(b -> {
    int rows = Math.max(1, b.n / (Sizes.gpu() ? 4 : 16));
    DType t = Sizes.gpu() ? b.type : DType.F32; // The logits of a CPU are fp32, as its products are.
    Mem logits = b.normals((long) rows * V(), t);
    Mem dlogits = b.normals((long) rows * V(), t);
    Mem loss = b.floats(rows, 0);
    Mem labels = b.counting(rows, rows);
    Mem scale = b.floats(1, 0.5f);
    return new Work(() -> b.kernels.crossEntropy(dlogits, loss, logits, labels, scale, rows, V(), 1, 0, t), 2.0 * t.bytes() * rows * V(), 4.0 * rows * V());
  }),
  ADAMW(b -> {
    long count = b.n * C();
    Mem p = b.floats(count, 1);
    Mem p16 = b.raw(2 * count);
    Mem m = b.floats(count, 0);
    Mem v = b.floats(count, 0);
    Mem g = b.normals(count, DType.F32);
    Mem hyper = b.raw(AdamwHyper.BYTES);
    b.machine.device().write(hyper, new AdamwHyper(1e-4, 0.9, 0.999, 1e-8, 0.01, 1).bytes());
    return new Work(() -> b.kernels.adamw(p, p16, m, v, g, null, hyper, count, DType.BF16),
        30.0 * count, 14.0 * count);
  }),
  ADAMW8(b -> {
    long count = b.n * C();
    long blocks = (count + 255) / 256;
    Mem p = b.floats(count, 1);
    Mem p16 = b.raw(2 * count);
    Mem m8 = b.raw(count);
    Mem v8 = b.raw(count);
    Mem mMax = b.floats(blocks, 1);
    Mem vMax = b.floats(blocks, 1);
    Mem g = b.normals(count, DType.F32);
    Mem hyper = b.raw(AdamwHyper.BYTES);
    b.machine.device().write(hyper, new AdamwHyper(1e-4, 0.9, 0.999, 1e-8, 0.01, 1).bytes());
    return new Work(() -> b.kernels.adamw8(p, p16, m8, v8, mMax, vMax, g, null, hyper, count, DType.BF16),
        18.0 * count, 14.0 * count);
  }),
  NF4_QUANTIZE(b -> {
    long count = F() * C();
    Mem w = b.normals(count);
    Nf4 q = nf4(b, count);
    Mem space = b.raw(LoraKernels.nf4Workspace(count));
    return new Work(() -> b.kernels.lora().nf4Quantize(q, w, space, count, b.type),
        count * (b.type.bytes() + NF4_BYTES()), count);
  }),
  NF4_DEQUANTIZE(b -> {
    long count = F() * C();
    Mem w = b.normals(count);
    Nf4 q = quantized(b, count);
    return new Work(() -> b.kernels.lora().nf4Dequantize(w, q, F(), C(), C(), b.type),
        count * (b.type.bytes() + NF4_BYTES()), count);
  }),
  INT8_QUANTIZE(b -> {
    long count = F() * C();
    Mem w = b.normals(count);
    Int8 q = int8(b, count);
    return new Work(() -> b.kernels.int8().quantize(q, null, null, w, F(), C(), b.type), count * (b.type.bytes() + INT8_BYTES()), count);
  }),
  INT8_DEQUANTIZE(b -> {
    long count = F() * C();
    Mem w = b.normals(count);
    Int8 q = int8(b, count);
    b.kernels.int8().quantize(q, null, null, w, F(), C(), b.type);
    return new Work(() -> b.kernels.int8().dequantize(w, q, F(), C(), C(), b.type), count * (b.type.bytes() + INT8_BYTES()), count);
  }),
  GGML_Q4_0(b -> PackedCases.ggml(b, GgmlType.Q4_0)),
  GGML_Q4_1(b -> PackedCases.ggml(b, GgmlType.Q4_1)),
  GGML_Q5_0(b -> PackedCases.ggml(b, GgmlType.Q5_0)),
  GGML_Q5_1(b -> PackedCases.ggml(b, GgmlType.Q5_1)),
  GGML_Q8_0(b -> PackedCases.ggml(b, GgmlType.Q8_0)),
  GGML_Q4_K(b -> PackedCases.ggml(b, GgmlType.Q4_K)),
  GGML_Q5_K(b -> PackedCases.ggml(b, GgmlType.Q5_K)),
  GGML_Q6_K(b -> PackedCases.ggml(b, GgmlType.Q6_K)),
  GGML_EMBEDDING(PackedCases::ggmlEmbedding),
  GGML_MATMUL(b -> PackedCases.ggmlMatmul(b, false)),
  GGML_MATMUL_Q8(b -> PackedCases.ggmlMatmul(b, true)),
  FP8_QUANTIZE(PackedCases::fp8),
  FP8_QUANTIZE_TRANSPOSED(PackedCases::fp8Transposed),
  ROUTER_FORWARD(ExpertCases::routerForward),
  ROUTER_BACKWARD(ExpertCases::routerBackward),
  ROUTE(ExpertCases::route),
  UNROUTE(ExpertCases::unroute),
  GROUPED_MATMUL(ExpertCases::matmul),
  GROUPED_MATMUL_DX(ExpertCases::matmulDx),
  GROUPED_MATMUL_DW(ExpertCases::matmulDw),
  WEIGHTED_GLU_FORWARD(ExpertCases::weightedGluForward),
  WEIGHTED_GLU_BACKWARD(ExpertCases::weightedGluBackward),
  LATENT_FORWARD(ExpertCases::latentForward),
  LATENT_BACKWARD(ExpertCases::latentBackward),
  LORA_MATMUL(b -> lora(b, false, false)),
  LORA_MATMUL_DX(b -> lora(b, true, false)),
  LORA_MATMUL_NF4(b -> lora(b, false, true)),
  LORA_MATMUL_DX_NF4(b -> lora(b, true, true)),
  LORA_FORWARD(b -> {
    LoraShape s = loraShape(b);
    Mem y = b.normals(b.n * C());
    Mem h = b.normals(b.n * RANK());
    Mem x = b.normals(b.n * C());
    Mem w = b.normals(C() * C());
    Mem a = b.normals(RANK() * C());
    Mem up = b.normals(C() * RANK());
    Mem space = b.raw(b.kernels.lora().workspace(s));
    return new Work(() -> b.kernels.lora().forward(y, h, x, w, null, a, up, space, s),
        2 * bytes(b, C()) + C() * C() * b.type.bytes(), 2.0 * b.n * C() * (C() + 2 * RANK()));
  }),
  LORA_H(b -> {
    LoraShape s = loraShape(b);
    Mem x = b.normals(b.n * C());
    Mem a = b.normals(RANK() * C());
    Mem h = b.normals(b.n * RANK());
    Mem space = b.raw(b.kernels.lora().workspace(s));
    return new Work(() -> b.kernels.lora().h(h, x, a, space, s), bytes(b, C() + RANK()), 2.0 * b.n * C() * RANK());
  }),
  LORA_G_DB(b -> {
    LoraShape s = loraShape(b);
    Mem dy = b.normals(b.n * C());
    Mem w = b.normals(C() * RANK());
    Mem h = b.normals(b.n * RANK());
    Mem g = b.normals(b.n * RANK());
    Mem db = b.floats(C() * RANK(), 0);
    Mem space = b.raw(b.kernels.lora().workspace(s));
    return new Work(() -> b.kernels.lora().gDb(g, db, dy, w, h, space, s), bytes(b, C() + 2 * RANK()), 4.0 * b.n * C() * RANK());
  }),
  LORA_DA(b -> {
    LoraShape s = loraShape(b);
    Mem x = b.normals(b.n * C());
    Mem g = b.normals(b.n * RANK());
    Mem da = b.floats(RANK() * C(), 0);
    Mem space = b.raw(b.kernels.lora().workspace(s));
    return new Work(() -> b.kernels.lora().da(da, g, x, space, s), bytes(b, C() + RANK()), 2.0 * b.n * C() * RANK());
  }),
  SUM(b -> {
    Mem x = b.normals(b.n * C(), DType.F32);
    Mem out = b.raw(8);
    Mem space = b.raw(Kernels.sumWorkspace(b.n * C()));
    return new Work(() -> b.kernels.sum(out, x, space, b.n * C(), false), 4.0 * b.n * C(), b.n * C());
  }),
  SUM_SQUARES(b -> {
    Mem x = b.normals(b.n * C(), DType.F32);
    Mem out = b.raw(8);
    Mem space = b.raw(Kernels.sumWorkspace(b.n * C()));
    return new Work(() -> b.kernels.sumSquares(out, x, space, b.n * C(), false), 4.0 * b.n * C(), 2.0 * b.n * C());
  }),
  CLIP_SCALE(b -> {
    Mem squares = b.raw(8);
    Mem scale = b.floats(1, 0);
    Mem norm = b.floats(1, 0);
    return new Work(() -> b.kernels.clipScale(scale, norm, squares, 1), 16, 4);
  }),
  SAMPLE(b -> {
    Mem logits = b.normals(V(), DType.F32);
    Mem token = b.ints(new int[1]);
    Mem seen = b.ints(new int[1]);
    Mem space = b.raw(Kernels.sampleWorkspace(1, V()));
    Kernels.Sampling how = new Kernels.Sampling(0.8f, 40, 0.95f, 0, 1, 1, 1);
    return new Work(() -> b.kernels.sample(token, logits, seen, space, 1, V(), 0, how), 4.0 * V(), V());
  });

  private final Function<Bench, Work> make;

  Case(Function<Bench, Work> make) {
    this.make = make;
  }

  Work of(Bench b) {
    return make.apply(b);
  }

  /** The names of those that a CPU can run. */
  static String[] ofCpu() {
    return Arrays.stream(values()).map(Case::name).filter(name -> !name.startsWith("CUDNN")).toArray(String[]::new);
  }

  /** The names of those that a GPU can run. */
  static String[] ofGpu() {
    return Arrays.stream(values()).map(Case::name).filter(name -> !name.startsWith("GGML_MATMUL")).toArray(String[]::new);
  }

  // Methods and not constants: an enum's own constants do not exist yet where its values are made.

  static long C() {
    return Sizes.current().c();
  }

  static int F() {
    return Sizes.current().f();
  }

  static int H() {
    return Sizes.current().h();
  }

  static int KV() {
    return Sizes.current().kv();
  }

  static int D() {
    return Sizes.current().d();
  }

  static int V() {
    return Sizes.current().v();
  }

  static int ROWS() {
    return Sizes.current().rows();
  }

  static long QKV() {
    return C() + 2L * KV() * D();
  }

  static long RANK() {
    return 16;
  }

  /** Of a weight: its code, and its parts of the block's scale and of the block of blocks'. */
  static double NF4_BYTES() {
    return 0.5 + 1.0 / Nf4.BLOCK + 4.0 / (Nf4.BLOCK * Nf4.BLOCK2);
  }

  private static double INT8_BYTES() {
    return 1 + 4.0 / Int8.BLOCK;
  }

  private static Int8 int8(Bench b, long count) {
    return new Int8(b.raw(count), b.raw(4 * count / Int8.BLOCK));
  }

  private static Nf4 nf4(Bench b, long count) {
    return new Nf4(b.raw(Nf4.codesBytes(count)), b.raw(Nf4.absmaxBytes(count)), b.raw(4 * Nf4.absmax2Count(count)), b.raw(4));
  }

  private static Nf4 quantized(Bench b, long count) {
    Nf4 q = nf4(b, count);
    b.kernels.lora().nf4Quantize(q, b.normals(count), b.raw(LoraKernels.nf4Workspace(count)), count, b.type);
    return q;
  }

  /** One square projection with an adapter, as the output projection of attention. */
  private static LoraShape loraShape(Bench b) {
    return new LoraShape(b.n, C(), C(), C(), C(), RANK(), b.type, List.of(new LoraShape.Adapter(0, C(), 1)));
  }

  private static Work lora(Bench b, boolean dx, boolean nf4) {
    LoraShape s = loraShape(b);
    String unsupported = b.kernels.lora().unsupported(s, nf4);
    if (unsupported != null) {
      throw new UnsupportedOperationException(unsupported);
    }
    Mem to = b.normals(b.n * C());
    Mem from = b.normals(b.n * C());
    Mem w = nf4 ? null : b.normals(C() * C());
    Nf4 q = nf4 ? quantized(b, C() * C()) : null;
    Mem narrow = b.normals(b.n * RANK());
    Mem adapter = b.normals(RANK() * C());
    double weight = C() * C() * (nf4 ? NF4_BYTES() : b.type.bytes());
    double flops = 2.0 * b.n * C() * (C() + RANK());
    return new Work(
        dx ? () -> b.kernels.lora().matmulDx(to, from, w, q, narrow, adapter, s)
            : () -> b.kernels.lora().matmul(to, from, w, q, narrow, adapter, s),
        2 * bytes(b, C()) + weight, flops);
  }

  private static Attention own(Bench b) {
    return new KernelAttention(b.kernels);
  }

  private static Attention cudnn(Bench b) {
    return b.closing(new CudnnAttention(b.kernels, false));
  }

  /** Of n rows of some columns in the storage type. */
  private static double bytes(Bench b, long columns) {
    return (double) b.n * columns * b.type.bytes();
  }

  /** Packed sequences, by the kernels or by a library that takes their place. */
  private static Work attention(Bench b, Function<Bench, Attention> library, boolean backward) {
    Attention attention = library.apply(b);
    int sequences = Math.max(1, b.n / Sizes.current().sequence());
    int[] cu = new int[sequences + 1];
    double pairs = 0;
    for (int s = 1; s <= sequences; s++) {
      cu[s] = (int) ((long) b.n * s / sequences);
      double length = cu[s] - cu[s - 1];
      pairs += length * (length + 1) / 2;
    }
    Mem qkv = b.normals(b.n * QKV());
    Mem dqkv = b.normals(b.n * QKV());
    Mem o = b.normals(b.n * C());
    Mem dOut = b.normals(b.n * C());
    Mem lse = b.floats((long) b.n * H(), 0);
    AttentionShape shape = new AttentionShape(b.n, sequences, (b.n + sequences - 1) / sequences, H(), KV(), D(), QKV(), QKV(), QKV(),
        C(), b.ints(cu), null, null, (float) (1 / Math.sqrt(D())), 0, 0, b.type);
    Mem space = b.raw(attention.workspace(shape, backward));
    Mem forwardSpace = b.raw(attention.workspace(shape, false));
    Mem k = part(b, qkv, C());
    Mem v = part(b, qkv, C() + (long) KV() * D());
    double flops = 4 * pairs * H() * D();
    if (!backward) {
      return new Work(() -> attention.forward(o, lse, qkv, k, v, space, shape), bytes(b, QKV() + C()), flops);
    }
    attention.forward(o, lse, qkv, k, v, forwardSpace, shape);
    Mem dk = part(b, dqkv, C());
    Mem dv = part(b, dqkv, C() + (long) KV() * D());
    return new Work(() -> attention.backward(dqkv, dk, dv, o, lse, dOut, qkv, k, v, space, shape),
        2 * bytes(b, QKV() + C()), 2.5 * flops);
  }

  /** The next token of each sequence, whose keys and values lie in a cache. */
  private static Work decode(Bench b) {
    Attention attention = own(b);
    int sequences = Math.max(1, b.n / Sizes.current().sequence());
    int length = b.n / sequences;
    int[] cu = new int[sequences + 1];
    int[] starts = new int[sequences];
    int[] lengths = new int[sequences];
    for (int s = 0; s < sequences; s++) {
      cu[s + 1] = s + 1;
      starts[s] = s * length;
      lengths[s] = length;
    }
    long width = (long) KV() * D();
    Mem q = b.normals(sequences * C());
    Mem k = b.normals(b.n * width);
    Mem v = b.normals(b.n * width);
    Mem o = b.normals(sequences * C());
    Mem lse = b.floats((long) sequences * H(), 0);
    AttentionShape shape = new AttentionShape(sequences, sequences, 1, H(), KV(), D(), C(), width, width, C(), b.ints(cu), b.ints(starts),
        b.ints(lengths), (float) (1 / Math.sqrt(D())), 0, 0, b.type);
    Mem space = b.raw(attention.workspace(shape, false));
    return new Work(() -> attention.forward(o, lse, q, k, v, space, shape), 2 * bytes(b, width), 4.0 * sequences * length * C());
  }

  private static Mem part(Bench b, Mem row, long columns) {
    long offset = columns * b.type.bytes();
    return row.slice(offset, row.bytes() - offset);
  }
}
