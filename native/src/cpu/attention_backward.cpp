/*
 * Math        delta = sum(do * o);  P = exp(S - lse);  dP = do.v;  dS = P * (dP - delta)
 *             dq = scale * dS.k;  dk = scale * transpose(dS).q;  dv = transpose(P).do
 * Shapes      q, o, dq, do (N,H,D)  k, v, dk, dv (N,Hkv,D)  lse (N,H)
 * Layout      row strides ld_q, ld_k, ld_v, ld_o; the heads of a row side by side; any alignment
 * Precision   storage fp32, bf16 or fp16; everything else fp32, dk and dv summed in the workspace and rounded once
 * Saved       o, lse of the forward pass, which says what S and P are
 * Writes      dq =, dk =, dv =
 * Determinism bit-exact for any number of threads: a row meets its key tiles, and a key its panels of rows, in rising
 *             order, whichever way the work is divided
 * Limits      those of the forward pass; no cache: keys are the rows of the queries
 */
#include "common/context.h"
#include "cpu/attention_plan.h"
#include "cpu/attention_tile.h"
#include "cpu/parallel.h"

namespace oribi::attention {
namespace {

/* Keys of one dk, dv task: packing the rows again costs about 5 % of such a task. */
constexpr int64_t kRangeKeys = 256;

struct BackwardTiles {
  float *q, *d_o; /* [row][Dp], q times the scale */
  float *q_t, *d_o_t, *dq_t; /* [panel][Dp][kPanel] */
  float *k, *v; /* [kTileKeys][Dp] */
  float *p, *ds; /* [kTileKeys][kPanel] */
  float *lse, *delta; /* [row] */

  BackwardTiles(char* memory, int64_t dp) {
    Scratch scratch{memory};
    for (float** tile : {&q, &d_o, &q_t, &d_o_t, &dq_t}) *tile = scratch.take<float>(kBlockRows * dp);
    for (float** tile : {&k, &v}) *tile = scratch.take<float>(kTileKeys * dp);
    for (float** tile : {&p, &ds}) *tile = scratch.take<float>(kTileKeys * kPanel);
    for (float** rows : {&lse, &delta}) *rows = scratch.take<float>(kBlockRows);
  }

  static int64_t bytes(int64_t dp) {
    return bytes_of_floats((5 * kBlockRows + 2 * kTileKeys) * dp) + bytes_of_floats(2 * kTileKeys * kPanel) +
           bytes_of_floats(2 * kBlockRows);
  }
};

/* Where a pass adds fp32 gradients of the keys of its group: [key][Dp]. NULL: this pass computes dq only. */
struct KeyGradients {
  float *dk, *dv;
};

template <class T>
struct BackwardOperands {
  T *dq, *dk, *dv;
  const T* o;
  const float* lse;
  const T *d_o, *q, *k, *v;
};

/* p = softmax and ds = p * (dp - delta), in place of the scores and of dp, for a vector of rows. */
void softmax_backward(float* p, float* ds, vfloat lse, vfloat delta, vint visible, int64_t keys) {
  for (int32_t j = 0; j < keys; j++) {
    const vfloat x = j < visible ? vexp(vload(p + j * kPanel) - lse) : vfloat{};
    vstore(p + j * kPanel, x);
    vstore(ds + j * kPanel, j < visible ? x * (vload(ds + j * kPanel) - delta) : vfloat{});
  }
}

/* The scores s of a vector of rows become capped; dp becomes what, less delta, is the gradient of the uncapped score. */
void cap_backward(float* s, float* dp, vfloat delta, int64_t keys, float softcap) {
  for (int64_t j = 0; j < keys; j++) {
    const vfloat t = vtanh(vload(s + j * kPanel) / softcap);
    vstore(s + j * kPanel, softcap * t);
    vstore(dp + j * kPanel, (vload(dp + j * kPanel) - delta) * (1.0f - t * t) + delta);
  }
}

/* p and ds of a vector of rows, from the scores in p and from dp in ds. row: the first of them, within the block. */
void score_gradients(const BackwardTiles& tiles, const Block& block, int64_t row, int64_t tile, int64_t steps, float softcap) {
  float *p = tiles.p + row % kPanel, *ds = tiles.ds + row % kPanel;
  const vfloat delta = vload(tiles.delta + row);
  if (softcap != 0) cap_backward(p, ds, delta, steps, softcap);
  softmax_backward(p, ds, vload(tiles.lse + row), delta, vload(block.visible + row) - static_cast<int32_t>(tile), steps);
  if (!block.behind(row / kPanel * kPanel, tile)) return;
  hide_behind(p, first_seen(block, row, tile), steps, vfloat{});
  hide_behind(ds, first_seen(block, row, tile), steps, vfloat{});
}

/* c[count_m][Dp] += a * b[rows of a panel][Dp] */
void add_product(float* c, const float* a, const float* b, int64_t count_m, int64_t dp) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= dp; i += 2 * kLanes) multiply<2>(c + i, dp, a, kPanel, 1, b + i, dp, count_m, kPanel, true);
  for (; i < dp; i += kLanes) multiply<1>(c + i, dp, a, kPanel, 1, b + i, dp, count_m, kPanel, true);
}

/* All panels of a block against one packed tile of keys, `tile` being its first key. */
void backward_tile(const BackwardTiles& tiles, KeyGradients keys_out, bool want_dq, const Block& block, int64_t tile,
                   const Shape& shape, int64_t dp) {
  for (int64_t panel = 0; panel < block.panels(); panel++) {
    const int64_t row = panel * kPanel;
    const int64_t keys = block.keys(row, tile);
    if (keys <= 0 || block.past(row, tile)) continue;
    const int64_t steps = round_up(keys, kStep);
    multiply<2>(tiles.p, kPanel, tiles.k, dp, 1, tiles.q_t + row * dp, kPanel, steps, shape.d, false);
    multiply<2>(tiles.ds, kPanel, tiles.v, dp, 1, tiles.d_o_t + row * dp, kPanel, steps, shape.d, false);
    for (int64_t i = 0; i < kPanel; i += kLanes) score_gradients(tiles, block, row + i, tile, steps, shape.softcap);
    if (want_dq)
      multiply<2>(tiles.dq_t + row * dp, kPanel, tiles.k, 1, dp, tiles.ds, kPanel, dp, keys, true);
    if (keys_out.dk == nullptr) continue;
    add_product(keys_out.dv + tile * dp, tiles.p, tiles.d_o + row * dp, steps, dp);
    add_product(keys_out.dk + tile * dp, tiles.ds, tiles.q + row * dp, steps, dp);
  }
}

/* Packs what a block of rows needs, with delta = sum(do * o). */
template <class T>
void pack_block(const BackwardTiles& tiles, const BackwardOperands<T>& x, const Shape& shape, const Group& group,
                const Block& block, int64_t dp) {
  pack_rows(tiles.q, dp, x.q, shape.ld_q, group, block, shape.d, shape.scale);
  pack_rows(tiles.d_o, dp, x.d_o, shape.ld_o, group, block, shape.d, 1.0f);
  transpose_rows(tiles.q_t, tiles.q, dp, block.panels());
  transpose_rows(tiles.d_o_t, tiles.d_o, dp, block.panels());
  std::fill(tiles.lse, tiles.lse + kBlockRows, 0.0f);
  std::fill(tiles.delta, tiles.delta + kBlockRows, 0.0f);
  for (int64_t r = 0; r < block.count; r++) {
    const int64_t query = group.query(block.first + r), head = group.head(block.first + r);
    const T* o = x.o + query * shape.ld_o + head * shape.d;
    float* o_row = tiles.dq_t; /* not in use yet */
    for (int64_t i = 0; i < shape.d; i++) o_row[i] = to_float(o[i]);
    std::fill(o_row + shape.d, o_row + dp, 0.0f);
    vfloat delta = {};
    for (int64_t i = 0; i < dp; i += kLanes) delta += vload(o_row + i) * vload(tiles.d_o + r * dp + i);
    tiles.delta[r] = vsum(delta);
    tiles.lse[r] = x.lse[query * shape.h + head];
  }
}

/* The gradients that flow between one block of rows and the keys key_begin .. key_end of its group. */
template <class T>
void backward_block(char* memory, KeyGradients keys_out, bool want_dq, const BackwardOperands<T>& x, const Shape& shape,
                    const Group& group, const Block& block, int64_t key_begin, int64_t key_end) {
  const int64_t dp = padded_head(shape.d);
  const int64_t end = std::min(key_end, block.last_visible());
  const int64_t first = std::max(key_begin, block.first_visible(0) / kTileKeys * kTileKeys);
  if (end <= first) return;
  const BackwardTiles tiles(memory, dp);
  pack_block(tiles, x, shape, group, block, dp);
  std::fill(tiles.dq_t, tiles.dq_t + block.panels() * kPanel * dp, 0.0f);
  for (int64_t tile = first; tile < end; tile += kTileKeys) {
    const int64_t row = group.key_begin + tile, count = std::min(kTileKeys, end - tile);
    pack_keys(tiles.k, dp, x.k + row * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, shape.d);
    pack_keys(tiles.v, dp, x.v + row * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, shape.d);
    backward_tile(tiles, keys_out, want_dq, block, tile, shape, dp);
  }
  if (!want_dq) return;
  float factor[kBlockRows];
  std::fill(factor, factor + kBlockRows, shape.scale);
  unpack_rows(x.dq, shape.ld_q, tiles.q, tiles.dq_t, dp, factor, group, block, shape.d);
}

template <class T>
void write_keys(T* y, int64_t ldy, const float* x, const Group& group, int64_t begin, int64_t end, int64_t d) {
  for (int64_t j = begin; j < end; j++)
    for (int64_t i = 0; i < d; i++)
      y[(group.key_begin + j) * ldy + group.kv_head * d + i] = from_float<T>(x[j * padded_head(d) + i]);
}

/* dk and dv of the keys key_begin .. key_end, from all blocks of rows in order; dq as well where they are all the keys. */
template <class T>
void backward_keys(char* memory, KeyGradients keys, bool want_dq, const BackwardOperands<T>& x, const Shape& shape,
                   const Group& group, int64_t key_begin, int64_t key_end) {
  const int64_t dp = padded_head(shape.d);
  for (float* gradient : {keys.dk, keys.dv})
    std::fill(gradient + key_begin * dp, gradient + round_up(key_end, kStep) * dp, 0.0f);
  for (int64_t b = 0; b < blocks_of(group); b++)
    backward_block(memory, keys, want_dq, x, shape, group, block_of(group, b), key_begin, key_end);
  write_keys(x.dk, shape.ld_k, keys.dk, group, key_begin, key_end, shape.d);
  write_keys(x.dv, shape.ld_v, keys.dv, group, key_begin, key_end, shape.d);
}

/* A table of tasks, then fp32 dk and dv of every key head, then each thread's tiles. */
struct Workspace {
  int64_t table, gradient, tiles; /* bytes: of the table, of dk (and of dv), of one thread's tiles */
  int64_t key_rows;               /* rows of dk of one key head: every sequence ends with kStep rows to spare */

  explicit Workspace(const Shape& shape) {
    const int64_t dp = padded_head(shape.d);
    table = table_bytes(shape);
    key_rows = shape.n + shape.sequences * kStep;
    gradient = bytes_of_floats(shape.h_kv * key_rows * dp);
    tiles = BackwardTiles::bytes(dp);
  }

  int64_t bytes(int64_t threads) const { return table + 2 * gradient + threads * tiles; }
  char* thread_tiles(char* base, int64_t thread) const { return base + table + 2 * gradient + thread * tiles; }
  KeyGradients keys(char* base, const Shape& shape, int64_t sequence, int64_t kv_head) const {
    const int64_t row = kv_head * key_rows + shape.cu_seqlens[sequence] + sequence * kStep;
    float* dk = reinterpret_cast<float*>(base + table) + row * padded_head(shape.d);
    return {dk, dk + gradient / static_cast<int64_t>(sizeof(float))};
  }
};

/* One pass over (sequence, key head) computes the scores once, 5 products a tile. Where that leaves threads idle, as
   with one long sequence, dq and dk, dv are computed apart from smaller tasks, 7 products. The bits are the same. */
bool one_pass(const Shape& shape, int64_t threads) {
  double total = 0, longest = 0;
  for (int64_t s = 0; s < shape.sequences; s++) {
    const double length = shape.cu_seqlens[s + 1] - shape.cu_seqlens[s];
    total += length * length * shape.h_kv;
    longest = std::max(longest, length * length);
  }
  const double share = total / threads;
  return 5 * (share + longest * (threads - 1) / threads) <= 7 * share;
}

template <class T>
void backward(oribi_ctx* ctx, const BackwardOperands<T>& x, char* base, const Shape& shape) {
  const Workspace workspace(shape);
  Tasks tasks{reinterpret_cast<int64_t*>(base), shape.sequences, shape.h_kv};
  const bool whole = one_pass(shape, ctx->threads);
  const auto keys_of_range = [whole](const Group& group) {
    return whole ? std::max<int64_t>(group.key_count, 1) : kRangeKeys;
  };
  tasks.fill(shape, [&](const Group& group) {
    return (group.key_count + keys_of_range(group) - 1) / keys_of_range(group);
  });
  parallel_for(ctx, tasks.total(), [&](int64_t i) {
    const Tasks::Task task = tasks[i];
    const Group group = group_of(shape, task.sequence, task.kv_head);
    const int64_t begin = task.index * keys_of_range(group);
    const int64_t end = std::min(group.key_count, begin + keys_of_range(group));
    const KeyGradients keys = workspace.keys(base, shape, task.sequence, task.kv_head);
    backward_keys(workspace.thread_tiles(base, thread_index()), keys, whole, x, shape, group, begin, end);
  });
  if (whole) return;
  tasks.fill(shape, blocks_of);
  parallel_for(ctx, tasks.total(), [&](int64_t i) {
    const Tasks::Task task = tasks[i];
    const Group group = group_of(shape, task.sequence, task.kv_head);
    backward_block(workspace.thread_tiles(base, thread_index()), {nullptr, nullptr}, true, x, shape, group,
                   block_of(group, task.index), 0, group.key_count);
  });
}

}  // namespace

int64_t backward_workspace(const Shape& shape, int64_t threads) { return Workspace(shape).bytes(threads); }

}  // namespace oribi::attention

extern "C" oribi_status oribi_attention_backward(oribi_ctx* ctx, void* dq, void* dk, void* dv, const void* o,
                                                 const float* lse, const void* d_o, const void* q, const void* k,
                                                 const void* v, void* workspace, const oribi_attention_shape* shape) {
  oribi::Check check(ctx, "oribi_attention_backward");
  check.pointer("shape", shape);
  if (check.ok()) oribi::attention::check_shape(check, *shape);
  if (check.ok()) oribi::attention::check_sequences(check, *shape);
  if (!check.ok()) return check.status();
  const int64_t n = shape->n;
  check.that(shape->kv_start == nullptr, "there is no backward pass through a cache: kv_start must be NULL");
  check.pointer("dq", dq, n).pointer("dk", dk, n).pointer("dv", dv, n).pointer("o", o, n).pointer("lse", lse, n);
  check.pointer("d_o", d_o, n).pointer("q", q, n).pointer("k", k, n).pointer("v", v, n);
  check.pointer("workspace", workspace);
  if (!check.ok()) return check.status();
  oribi::dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    const oribi::attention::BackwardOperands<T> x{
        static_cast<T*>(dq), static_cast<T*>(dk), static_cast<T*>(dv), static_cast<const T*>(o), lse,
        static_cast<const T*>(d_o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v)};
    oribi::attention::backward(ctx, x, static_cast<char*>(workspace), *shape);
  });
  return ORIBI_OK;
}
