/*
 * Math        S = scale * q.k over the visible keys;  P = softmax(S);  o = P.v;  lse = log(sum of exp(S))
 *             delta = sum(do * o);  dP = do.v;  dS = P * (dP - delta)
 *             dq = scale * dS.k;  dk = scale * transpose(dS).q;  dv = transpose(P).do
 * Shapes      q, o, dq, do (N,H,D)  k, v, dk, dv (N,Hkv,D), or the rows of a cache  lse (N,H)
 * Layout      row strides ld_q, ld_k, ld_v, ld_o; the heads of a row side by side; any alignment
 * Precision   storage fp32, bf16 or fp16; everything else fp32, converted when a tile is packed
 * Saved       lse, fp32; P is computed again from it
 * Writes      o, lse, dq, dk, dv =
 * Determinism bit-exact for any number of threads: a row meets its key tiles, and a key its panels of rows, in rising
 *             order, whichever way the backward pass is divided
 * Limits      D even, at most 256; a NaN in a key reaches earlier rows of its own sequence that share its tile
 */
#include "cpu/attention_tile.h"

#include <cmath>

#include "common/context.h"
#include "cpu/parallel.h"

namespace oribi::attention {
namespace {

using Shape = oribi_attention_shape;

constexpr int64_t kRangeKeys = 256; /* keys of one dk, dv task: packing the rows again costs about 5 % of such a task */
constexpr int64_t kAlign = 64; /* bytes */

/* Hands out pieces of the workspace. */
struct Scratch {
  char* at;

  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(at);
    at += round_up(count * static_cast<int64_t>(sizeof(T)), kAlign);
    return piece;
  }
};

int64_t bytes_of_floats(int64_t count) { return round_up(count * static_cast<int64_t>(sizeof(float)), kAlign); }

Group group_of(const Shape& shape, int64_t sequence, int64_t kv_head) {
  Group group;
  group.query_begin = shape.cu_seqlens[sequence];
  group.query_count = shape.cu_seqlens[sequence + 1] - group.query_begin;
  group.key_begin = shape.kv_start ? shape.kv_start[sequence] : group.query_begin;
  group.key_count = shape.kv_start ? shape.kv_len[sequence] : group.query_count;
  group.kv_head = kv_head;
  group.heads = shape.h / shape.h_kv;
  return group;
}

/* ------------------------------------------------------------------------------------------------------ task tables */

/* Divides work into tasks: first[s] is the number of tasks before sequence s, for one key head. */
struct Tasks {
  int64_t* first; /* [S+1] */
  int64_t sequences, kv_heads;

  template <class Count>
  void fill(const Shape& shape, Count count) {
    first[0] = 0;
    for (int64_t s = 0; s < sequences; s++) first[s + 1] = first[s] + count(group_of(shape, s, 0));
  }

  int64_t total() const { return first[sequences] * kv_heads; }

  /* Tasks are handed out from the last, which sees the most keys, so that the short ones fill the end. */
  struct Task {
    int64_t sequence, index, kv_head;
  };
  Task operator[](int64_t i) const {
    const int64_t at = first[sequences] - 1 - i / kv_heads;
    const int64_t s = std::upper_bound(first, first + sequences + 1, at) - first - 1;
    return {s, at - first[s], i % kv_heads};
  }
};

int64_t blocks_of(const Group& group) { return (group.rows() + kBlockRows - 1) / kBlockRows; }

/* ------------------------------------------------------------------------------------------------------------ forward */

struct ForwardTiles {
  float *q, *o; /* [panel][Dp][kPanel] */
  float *k, *v; /* [kTileKeys][Dp] */
  float* s; /* [kTileKeys][kPanel] */
  vfloat max[kBlockRows / kLanes], sum[kBlockRows / kLanes];

  ForwardTiles(char* memory, int64_t dp) {
    Scratch scratch{memory};
    q = scratch.take<float>(kBlockRows * dp);
    o = scratch.take<float>(kBlockRows * dp);
    k = scratch.take<float>(kTileKeys * dp);
    v = scratch.take<float>(kTileKeys * dp);
    s = scratch.take<float>(kTileKeys * kPanel);
  }

  static int64_t bytes(int64_t dp) {
    return bytes_of_floats(2 * kBlockRows * dp) + bytes_of_floats(2 * kTileKeys * dp) +
           bytes_of_floats(kTileKeys * kPanel);
  }
};

/* One step of the online softmax for a vector of rows: s becomes exp(s - max), max and sum go on, and o, which was
   relative to the old maximum, is scaled. */
void softmax_step(float* s, float* o, vfloat& max, vfloat& sum, vint visible, int64_t keys, int64_t dp) {
  vfloat new_max = max;
  for (int32_t j = 0; j < keys; j++) {
    vfloat x = vload(s + j * kPanel);
    x = j < visible ? x : vset(-INFINITY);
    vstore(s + j * kPanel, x);
    new_max = x > new_max ? x : new_max;
  }
  vfloat part = {};
  for (int64_t j = 0; j < keys; j++) {
    const vfloat p = vexp(vload(s + j * kPanel) - new_max);
    vstore(s + j * kPanel, p);
    part += p;
  }
  const vfloat decay = vexp(max - new_max);
  sum = sum * decay + part;
  max = new_max;
  for (int64_t i = 0; i < dp; i++) vstore(o + i * kPanel, vload(o + i * kPanel) * decay);
}

/* All panels of a block against one packed tile of keys. */
void forward_tile(ForwardTiles& tiles, const Block& block, int64_t tile, int64_t d, int64_t dp) {
  for (int64_t p = 0; p < block.panels(); p++) {
    const int64_t keys = block.keys(p * kPanel, tile);
    if (keys <= 0) continue;
    float* o = tiles.o + p * kPanel * dp;
    multiply<2>(tiles.s, kPanel, tiles.k, dp, 1, tiles.q + p * kPanel * dp, kPanel, round_up(keys, kStep), d, false);
    for (int64_t i = 0; i < 2; i++)
      softmax_step(tiles.s + i * kLanes, o + i * kLanes, tiles.max[2 * p + i], tiles.sum[2 * p + i],
                   vload(block.visible + p * kPanel + i * kLanes) - static_cast<int32_t>(tile), keys, dp);
    multiply<2>(o, kPanel, tiles.v, 1, dp, tiles.s, kPanel, dp, keys, true);
  }
}

template <class T>
void forward_block(char* memory, T* o, float* lse, const T* q, const T* k, const T* v, const Shape& shape,
                   const Group& group, const Block& block) {
  const int64_t dp = padded_head(shape.d);
  ForwardTiles tiles(memory, dp);
  pack_rows(tiles.o, dp, q, shape.ld_q, group, block, shape.d, shape.scale);
  transpose_rows(tiles.q, tiles.o, dp, block.panels());
  std::fill(tiles.o, tiles.o + block.panels() * kPanel * dp, 0.0f);
  for (int64_t i = 0; i < block.panels() * 2; i++) tiles.max[i] = vset(-INFINITY), tiles.sum[i] = vfloat{};

  const int64_t end = block.last_visible();
  for (int64_t tile = 0; tile < end; tile += kTileKeys) {
    const int64_t row = group.key_begin + tile, count = std::min(kTileKeys, end - tile);
    pack_keys(tiles.k, dp, k + row * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, shape.d);
    pack_keys(tiles.v, dp, v + row * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, shape.d);
    forward_tile(tiles, block, tile, shape.d, dp);
  }

  float factor[kBlockRows];
  for (int64_t r = 0; r < block.count; r++) {
    const float sum = tiles.sum[r / kLanes][r % kLanes];
    factor[r] = 1 / sum;
    if (lse)
      lse[group.query(block.first + r) * shape.h + group.head(block.first + r)] =
          tiles.max[r / kLanes][r % kLanes] + std::log(sum);
  }
  unpack_rows(o, shape.ld_o, tiles.o, dp, factor, group, block, shape.d);
}

/* ------------------------------------------------------------------------------------------------- one query (decoding) */

/* s[kTileKeys] = q . k of a packed tile of keys, -infinity beyond count. */
void decode_scores(float* s, const float* q, const float* k, int64_t count, int64_t dp) {
  std::fill(s, s + kTileKeys, -INFINITY);
  for (int64_t j = 0; j < count; j += kStep) {
    vfloat dot[kStep] = {};
    for (int64_t i = 0; i < dp; i += kLanes)
      for (int m = 0; m < kStep; m++) dot[m] += vload(q + i) * vload(k + (j + m) * dp + i);
    for (int m = 0; m < kStep && j + m < count; m++) s[j + m] = vsum(dot[m]);
  }
}

/* o[Dp] = o * decay + sum over keys of p * v */
template <int Vectors>
void decode_values(float* o, const float* p, const float* v, int64_t count, int64_t dp, float decay) {
  vfloat sum[Vectors];
  for (int i = 0; i < Vectors; i++) sum[i] = vload(o + i * kLanes) * decay;
  for (int64_t j = 0; j < count; j++)
    for (int i = 0; i < Vectors; i++) sum[i] += p[j] * vload(v + j * dp + i * kLanes);
  for (int i = 0; i < Vectors; i++) vstore(o + i * kLanes, sum[i]);
}

/* A sequence with a single query, as in decoding: rows would leave most lanes empty, so D lies along the lanes. */
template <class T>
void forward_decode(char* memory, T* o, float* lse, const T* q, const T* k, const T* v, const Shape& shape,
                    const Group& group, int64_t row) {
  const int64_t dp = padded_head(shape.d);
  ForwardTiles tiles(memory, dp);
  const T* from = q + group.query(row) * shape.ld_q + group.head(row) * shape.d;
  std::fill(tiles.q, tiles.q + dp, 0.0f);
  std::fill(tiles.o, tiles.o + dp, 0.0f);
  for (int64_t i = 0; i < shape.d; i++) tiles.q[i] = to_float(from[i]) * shape.scale;
  float max = -INFINITY, sum = 0;
  for (int64_t tile = 0; tile < group.key_count; tile += kTileKeys) {
    const int64_t at = group.key_begin + tile, count = std::min(kTileKeys, group.key_count - tile);
    pack_keys(tiles.k, dp, k + at * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, shape.d);
    pack_keys(tiles.v, dp, v + at * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, shape.d);
    decode_scores(tiles.s, tiles.q, tiles.k, count, dp);
    vfloat high = vset(max), part = {};
    for (int64_t j = 0; j < kTileKeys; j += kLanes) {
      const vfloat x = vload(tiles.s + j);
      high = x > high ? x : high;
    }
    const float new_max = vmax(high);
    for (int64_t j = 0; j < kTileKeys; j += kLanes) {
      const vfloat p = vexp(vload(tiles.s + j) - new_max);
      vstore(tiles.s + j, p);
      part += p;
    }
    const float decay = std::exp(max - new_max);
    sum = sum * decay + vsum(part);
    max = new_max;
    int64_t i = 0;
    for (; i + 4 * kLanes <= dp; i += 4 * kLanes) decode_values<4>(tiles.o + i, tiles.s, tiles.v + i, count, dp, decay);
    for (; i < dp; i += kLanes) decode_values<1>(tiles.o + i, tiles.s, tiles.v + i, count, dp, decay);
  }
  T* to = o + group.query(row) * shape.ld_o + group.head(row) * shape.d;
  for (int64_t i = 0; i < shape.d; i++) to[i] = from_float<T>(tiles.o[i] / sum);
  if (lse) lse[group.query(row) * shape.h + group.head(row)] = max + std::log(sum);
}

/* ----------------------------------------------------------------------------------------------------------- backward */

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

/* c[count_m][Dp] += a * b[rows of a panel][Dp] */
void add_product(float* c, const float* a, const float* b, int64_t count_m, int64_t dp) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= dp; i += 2 * kLanes) multiply<2>(c + i, dp, a, kPanel, 1, b + i, dp, count_m, kPanel, true);
  for (; i < dp; i += kLanes) multiply<1>(c + i, dp, a, kPanel, 1, b + i, dp, count_m, kPanel, true);
}

/* All panels of a block against one packed tile of keys, `tile` being its first key. */
void backward_tile(const BackwardTiles& tiles, KeyGradients keys_out, bool want_dq, const Block& block, int64_t tile, int64_t d, int64_t dp) {
  for (int64_t panel = 0; panel < block.panels(); panel++) {
    const int64_t row = panel * kPanel;
    const int64_t keys = block.keys(row, tile);
    if (keys <= 0) continue;
    const int64_t steps = round_up(keys, kStep);
    multiply<2>(tiles.p, kPanel, tiles.k, dp, 1, tiles.q_t + row * dp, kPanel, steps, d, false);
    multiply<2>(tiles.ds, kPanel, tiles.v, dp, 1, tiles.d_o_t + row * dp, kPanel, steps, d, false);
    for (int64_t i = 0; i < kPanel; i += kLanes)
      softmax_backward(tiles.p + i, tiles.ds + i, vload(tiles.lse + row + i), vload(tiles.delta + row + i),
                       vload(block.visible + row + i) - static_cast<int32_t>(tile), steps);
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
  if (end <= key_begin) return;
  const BackwardTiles tiles(memory, dp);
  pack_block(tiles, x, shape, group, block, dp);
  std::fill(tiles.dq_t, tiles.dq_t + block.panels() * kPanel * dp, 0.0f);
  for (int64_t tile = key_begin; tile < end; tile += kTileKeys) {
    const int64_t row = group.key_begin + tile, count = std::min(kTileKeys, end - tile);
    pack_keys(tiles.k, dp, x.k + row * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, shape.d);
    pack_keys(tiles.v, dp, x.v + row * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, shape.d);
    backward_tile(tiles, keys_out, want_dq, block, tile, shape.d, dp);
  }
  if (!want_dq) return;
  float factor[kBlockRows];
  std::fill(factor, factor + kBlockRows, shape.scale);
  unpack_rows(x.dq, shape.ld_q, tiles.dq_t, dp, factor, group, block, shape.d);
}

template <class T>
void write_keys(T* y, int64_t ldy, const float* x, const Group& group, int64_t begin, int64_t end, int64_t d) {
  for (int64_t j = begin; j < end; j++)
    for (int64_t i = 0; i < d; i++)
      y[(group.key_begin + j) * ldy + group.kv_head * d + i] = from_float<T>(x[j * padded_head(d) + i]);
}

/* dk and dv of the keys key_begin .. key_end, from all blocks of rows in order, with dq if the keys are all there are. */
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

/* ---------------------------------------------------------------------------------------------- workspace and drivers */

/* The workspace: a table of tasks, then (backward) fp32 dk and dv of every key head, then each thread's tiles. */
struct Workspace {
  int64_t table, gradient, tiles; /* bytes: of the table, of dk (and of dv), of one thread's tiles */
  int64_t key_rows; /* rows of dk of one key head: every sequence ends with up to kStep rows to spare */

  Workspace(const Shape& shape, bool backward) {
    const int64_t dp = padded_head(shape.d);
    table = round_up((shape.sequences + 1) * static_cast<int64_t>(sizeof(int64_t)), kAlign);
    key_rows = shape.n + shape.sequences * kStep;
    gradient = backward ? bytes_of_floats(shape.h_kv * key_rows * dp) : 0;
    tiles = backward ? BackwardTiles::bytes(dp) : ForwardTiles::bytes(dp);
  }

  int64_t bytes(int64_t threads) const { return table + 2 * gradient + threads * tiles; }
  char* thread_tiles(char* base, int64_t thread) const { return base + table + 2 * gradient + thread * tiles; }
  KeyGradients keys(char* base, const Shape& shape, int64_t sequence, int64_t kv_head) const {
    const int64_t row = kv_head * key_rows + shape.cu_seqlens[sequence] + sequence * kStep;
    float* dk = reinterpret_cast<float*>(base + table) + row * padded_head(shape.d);
    return {dk, dk + gradient / static_cast<int64_t>(sizeof(float))};
  }
};

template <class T>
void forward(oribi_ctx* ctx, T* o, float* lse, const T* q, const T* k, const T* v, char* base, const Shape& shape) {
  const Workspace workspace(shape, false);
  Tasks tasks{reinterpret_cast<int64_t*>(base), shape.sequences, shape.h_kv};
  tasks.fill(shape, [](const Group& group) { return group.query_count == 1 ? group.heads : blocks_of(group); });
  parallel_for(ctx, tasks.total(), [&](int64_t i) {
    const Tasks::Task task = tasks[i];
    const Group group = group_of(shape, task.sequence, task.kv_head);
    char* tiles = workspace.thread_tiles(base, thread_index());
    if (group.query_count == 1)
      forward_decode(tiles, o, lse, q, k, v, shape, group, task.index);
    else
      forward_block(tiles, o, lse, q, k, v, shape, group, block_of(group, task.index));
  });
}

/* One pass over (sequence, key head) computes the scores once, 5 products a tile. Where that leaves threads idle, as with
   one long sequence, dq and dk, dv are computed apart from smaller tasks, 7 products. The bits are the same. */
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
  const Workspace workspace(shape, true);
  Tasks tasks{reinterpret_cast<int64_t*>(base), shape.sequences, shape.h_kv};
  const bool whole = one_pass(shape, ctx->threads);
  const auto keys_of_range = [&](const Group& group) { return whole ? std::max<int64_t>(group.key_count, 1) : kRangeKeys; };
  tasks.fill(shape, [&](const Group& group) {
    return (group.key_count + keys_of_range(group) - 1) / keys_of_range(group);
  });
  parallel_for(ctx, tasks.total(), [&](int64_t i) {
    const Tasks::Task task = tasks[i];
    const Group group = group_of(shape, task.sequence, task.kv_head);
    const int64_t begin = task.index * keys_of_range(group);
    backward_keys(workspace.thread_tiles(base, thread_index()), workspace.keys(base, shape, task.sequence, task.kv_head), whole,
                  x, shape, group, begin, std::min(group.key_count, begin + keys_of_range(group)));
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

void check_shape(Check& check, const Shape& s) {
  check.size("n", s.n).size("sequences", s.sequences).size("h", s.h, 1).size("h_kv", s.h_kv, 1).dtype("t", s.t);
  if (!check.ok()) return;
  check.that(s.h % s.h_kv == 0, "h must be a multiple of h_kv, found %lld and %lld", (long long)s.h, (long long)s.h_kv);
  check.that(s.d >= 2 && s.d <= 256 && s.d % 2 == 0, "d must be even and 2 to 256, found %lld", (long long)s.d);
  check.elements("q", s.n, s.ld_q);
  if (!check.ok()) return;
  check.size("ld_q", s.ld_q, s.h * s.d).size("ld_o", s.ld_o, s.h * s.d);
  check.size("ld_k", s.ld_k, s.h_kv * s.d).size("ld_v", s.ld_v, s.h_kv * s.d);
  check.that((s.kv_start == nullptr) == (s.kv_len == nullptr), "kv_start and kv_len must both be given or both be NULL");
}

/* Sequences follow each other from row 0 to row n, each with at least as many keys as queries. */
void check_sequences(Check& check, const Shape& s) {
  check.pointer("cu_seqlens", s.cu_seqlens);
  if (!check.ok()) return;
  check.that(s.cu_seqlens[0] == 0 && s.cu_seqlens[s.sequences] == s.n,
             "cu_seqlens must begin with 0 and end with n = %lld, found %d and %d", (long long)s.n, s.cu_seqlens[0],
             s.cu_seqlens[s.sequences]);
  for (int64_t i = 0; i < s.sequences && check.ok(); i++) {
    const int32_t begin = s.cu_seqlens[i], end = s.cu_seqlens[i + 1];
    check.that(begin <= end, "cu_seqlens must not fall, found %d after %d at sequence %lld", end, begin, (long long)i);
    if (s.kv_start == nullptr) continue;
    check.that(s.kv_start[i] >= 0, "kv_start[%lld] must not be negative, found %d", (long long)i, s.kv_start[i]);
    check.that(s.kv_len[i] >= end - begin, "kv_len[%lld] must be at least the %d queries of its sequence, found %d",
               (long long)i, end - begin, s.kv_len[i]);
  }
}

}  // namespace
}  // namespace oribi::attention

extern "C" int64_t oribi_attention_workspace(const oribi_ctx* ctx, const oribi_attention_shape* shape,
                                             int32_t backward) {
  if (ctx == nullptr || shape == nullptr || shape->n < 0 || shape->sequences < 0 || shape->h_kv < 1 || shape->d < 1)
    return 0;
  return oribi::attention::Workspace(*shape, backward != 0).bytes(ctx->threads);
}

extern "C" oribi_status oribi_attention_forward(oribi_ctx* ctx, void* o, float* lse, const void* q, const void* k,
                                                const void* v, void* workspace, const oribi_attention_shape* shape) {
  oribi::Check check(ctx, "oribi_attention_forward");
  check.pointer("shape", shape);
  if (check.ok()) oribi::attention::check_shape(check, *shape);
  if (check.ok()) oribi::attention::check_sequences(check, *shape);
  if (!check.ok()) return check.status();
  check.pointer("o", o, shape->n).pointer("q", q, shape->n).pointer("k", k, shape->n).pointer("v", v, shape->n);
  check.pointer("workspace", workspace);
  if (!check.ok()) return check.status();
  oribi::dispatch(shape->t, [&](auto type) {
    using T = decltype(type);
    oribi::attention::forward<T>(ctx, static_cast<T*>(o), lse, static_cast<const T*>(q), static_cast<const T*>(k),
                                 static_cast<const T*>(v), static_cast<char*>(workspace), *shape);
  });
  return ORIBI_OK;
}

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
