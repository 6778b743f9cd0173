/*
 * Math        S = scale * q.k over the visible keys, or softcap * tanh(S / softcap);  P = softmax(S);  o = P.v;  lse = log(sum of exp(S))
 * Shapes      q, o (N,H,D)  k, v (N,Hkv,D), or the rows of a cache  lse (N,H)
 * Layout      row strides ld_q, ld_k, ld_v, ld_o; the heads of a row side by side; any alignment
 * Precision   storage fp32, bf16 or fp16; everything else fp32, converted when a tile is packed
 * Saved       lse, fp32; the backward pass, in attention_backward.cpp, computes P again from it
 * Writes      o =, lse =
 * Determinism bit-exact for any number of threads: a row meets its key tiles in rising order
 * Limits      D even, at most 256; a NaN in a value reaches earlier rows of its own sequence that share its tile
 */
#include <cmath>
#include <type_traits>

#include "common/context.h"
#include "cpu/attention_plan.h"
#include "cpu/attention_tile.h"
#include "cpu/parallel.h"

namespace oribi::attention {
namespace {

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
  /* With a window a row may not have reached its first key: relative to 0 its terms are 0, not NaN. */
  const vfloat base = new_max == vset(-INFINITY) ? vfloat{} : new_max;
  vfloat part = {};
  for (int64_t j = 0; j < keys; j++) {
    const vfloat p = vexp(vload(s + j * kPanel) - base);
    vstore(s + j * kPanel, p);
    part += p;
  }
  const vfloat decay = vexp(max - base);
  sum = sum * decay + part;
  max = new_max;
  for (int64_t i = 0; i < dp; i++) vstore(o + i * kPanel, vload(o + i * kPanel) * decay);
}

/* All panels of a block against one packed tile of keys. */
void forward_tile(ForwardTiles& tiles, const Block& block, int64_t tile, const Shape& shape, int64_t dp) {
  for (int64_t p = 0; p < block.panels(); p++) {
    const int64_t keys = block.keys(p * kPanel, tile);
    if (keys <= 0 || block.past(p * kPanel, tile)) continue;
    float* o = tiles.o + p * kPanel * dp;
    multiply<2>(tiles.s, kPanel, tiles.k, dp, 1, tiles.q + p * kPanel * dp, kPanel, round_up(keys, kStep), shape.d, false);
    if (shape.softcap != 0) cap_scores(tiles.s, keys, shape.softcap);
    if (block.behind(p * kPanel, tile))
      for (int64_t i = 0; i < kPanel; i += kLanes)
        hide_behind(tiles.s + i, first_seen(block, p * kPanel + i, tile), keys, vset(-INFINITY));
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
  for (int64_t tile = block.first_visible(0) / kTileKeys * kTileKeys; tile < end; tile += kTileKeys) {
    const int64_t row = group.key_begin + tile, count = std::min(kTileKeys, end - tile);
    pack_keys(tiles.k, dp, k + row * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, shape.d);
    pack_keys(tiles.v, dp, v + row * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, shape.d);
    forward_tile(tiles, block, tile, shape, dp);
  }

  float factor[kBlockRows];
  for (int64_t r = 0; r < block.count; r++) {
    const float sum = tiles.sum[r / kLanes][r % kLanes];
    factor[r] = 1 / sum;
    if (lse)
      lse[group.query(block.first + r) * shape.h + group.head(block.first + r)] =
          tiles.max[r / kLanes][r % kLanes] + std::log(sum);
  }
  unpack_rows(o, shape.ld_o, tiles.q, tiles.o, dp, factor, group, block, shape.d);
}

/* A tile of keys or values in fp32, rows ld apart. */
struct DecodeTile {
  const float* rows;
  int64_t ld;
};

/* The tile as it lies in memory where nothing needs converting or filling up: copying it took a third of the time of a token's attention.
   `whole` is what count must be a multiple of. */
template <class T>
DecodeTile decode_tile(float* packed, const T* x, int64_t ldx, int64_t count, int64_t whole, int64_t d, int64_t dp) {
  if constexpr (std::is_same_v<T, float>) {
    if (d == dp && count % whole == 0) return {x, ldx};
  }
  pack_keys(packed, dp, x, ldx, count, d);
  return {packed, dp};
}

/* s[kTileKeys] = scores of a tile of keys, whole steps of it, -infinity beyond count. */
void decode_scores(float* s, const float* q, DecodeTile k, int64_t count, int64_t dp) {
  std::fill(s, s + kTileKeys, -INFINITY);
  for (int64_t j = 0; j < count; j += kStep) {
    vfloat dot[kStep] = {};
    for (int64_t i = 0; i < dp; i += kLanes)
      for (int m = 0; m < kStep; m++) dot[m] += vload(q + i) * vload(k.rows + (j + m) * k.ld + i);
    for (int m = 0; m < kStep && j + m < count; m++) s[j + m] = vsum(dot[m]);
  }
}

void cap_row(float* s, int64_t count, float softcap) {
  for (int64_t j = 0; j < count; j++) s[j] = softcap * std::tanh(s[j] / softcap);
}

/* o[Dp] = o * decay + sum over keys of p * v */
template <int Vectors>
void decode_values(float* o, const float* p, const float* v, int64_t ld, int64_t count, float decay) {
  vfloat sum[Vectors];
  for (int i = 0; i < Vectors; i++) sum[i] = vload(o + i * kLanes) * decay;
  for (int64_t j = 0; j < count; j++)
    for (int i = 0; i < Vectors; i++) sum[i] += p[j] * vload(v + j * ld + i * kLanes);
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
  for (int64_t tile = std::max<int64_t>(0, group.key_count - group.window); tile < group.key_count; tile += kTileKeys) {
    const int64_t at = group.key_begin + tile, count = std::min(kTileKeys, group.key_count - tile);
    const DecodeTile keys =
        decode_tile(tiles.k, k + at * shape.ld_k + group.kv_head * shape.d, shape.ld_k, count, kStep, shape.d, dp);
    const DecodeTile values = decode_tile(tiles.v, v + at * shape.ld_v + group.kv_head * shape.d, shape.ld_v, count, 1, shape.d, dp);
    decode_scores(tiles.s, tiles.q, keys, count, dp);
    if (shape.softcap != 0) cap_row(tiles.s, count, shape.softcap);
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
    for (; i + 4 * kLanes <= dp; i += 4 * kLanes) decode_values<4>(tiles.o + i, tiles.s, values.rows + i, values.ld, count, decay);
    for (; i < dp; i += kLanes) decode_values<1>(tiles.o + i, tiles.s, values.rows + i, values.ld, count, decay);
  }
  T* to = o + group.query(row) * shape.ld_o + group.head(row) * shape.d;
  for (int64_t i = 0; i < shape.d; i++) to[i] = from_float<T>(tiles.o[i] / sum);
  if (lse) lse[group.query(row) * shape.h + group.head(row)] = max + std::log(sum);
}

/* The workspace is a table of tasks, then each thread's tiles. A sequence with one query is a task a head. */
template <class T>
void forward(oribi_ctx* ctx, T* o, float* lse, const T* q, const T* k, const T* v, char* base, const Shape& shape) {
  Tasks tasks{reinterpret_cast<int64_t*>(base), shape.sequences, shape.h_kv};
  tasks.fill(shape, [](const Group& group) { return group.query_count == 1 ? group.heads : blocks_of(group); });
  parallel_for(ctx, tasks.total(), [&](int64_t i) {
    const Tasks::Task task = tasks[i];
    const Group group = group_of(shape, task.sequence, task.kv_head);
    char* tiles = base + table_bytes(shape) + thread_index() * ForwardTiles::bytes(padded_head(shape.d));
    if (group.query_count == 1)
      forward_decode(tiles, o, lse, q, k, v, shape, group, task.index);
    else
      forward_block(tiles, o, lse, q, k, v, shape, group, block_of(group, task.index));
  });
}

}  // namespace
}  // namespace oribi::attention

extern "C" int64_t oribi_attention_workspace(const oribi_ctx* ctx, const oribi_attention_shape* shape,
                                             int32_t backward) {
  using namespace oribi::attention;
  if (ctx == nullptr || shape == nullptr || shape->n < 0 || shape->sequences < 0 || shape->h_kv < 1 || shape->d < 1)
    return 0;
  if (backward != 0) return backward_workspace(*shape, ctx->threads);
  return table_bytes(*shape) + ctx->threads * ForwardTiles::bytes(padded_head(shape->d));
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
