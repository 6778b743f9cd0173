/*
 * Math        delta = sum(do * o);  P = exp(S - lse);  dP = do.v;  dS = P * (dP - delta), times the softcap's derivative
 *             dq = scale * dS.k;  dk = scale * transpose(dS).q;  dv = transpose(P).do
 * Shapes      q, o, dq, do (N,H,D)  k, v, dk, dv (N,Hkv,D)  lse (N,H)  delta, lse2 (H,ld_line(N)) in the workspace
 * Layout      as the forward pass
 * Precision   tensor cores with fp32 sums; P and dS are rounded to the storage type before their second product; delta uses
 *             the stored o; dq, dk and dv are summed in registers and rounded once
 * Saved       o, lse of the forward pass
 * Writes      dq =, dk =, dv =
 * Determinism bit-exact, without atomics: one kernel owns keys and sums dk and dv over all queries and heads of the group, a
 *             second owns queries and sums dq; the scores are computed in both, seven products instead of five
 * Limits      those of the forward pass; no cache
 *
 * The kernel that owns keys works on transposed scores, keys along the rows, so that P and dS are left operands of dv and dk
 * as they are.
 */
#ifndef ORIBI_CUDA_ATTENTION_BACKWARD_CUH
#define ORIBI_CUDA_ATTENTION_BACKWARD_CUH

#include "cuda/attention_mma.cuh"

namespace oribi::attention {

/* kKeys of the block, kQueries a step, kStages of them in shared memory. The warps divide the scores kScoreK x kScoreQ, and
   dk and dv kOutK x kOutD: so a warp can own 32 rows of either, and each fragment that it reads from shared memory serves two
   products; the price is that P and dS pass through shared memory. */
template <int kHead_, int kKeys_, int kQueries_, int kStages_, int kScoreK, int kScoreQ, int kOutK, int kOutD, int kBlocks_>
struct KeyTile {
  static constexpr int kHead = kHead_, kKeys = kKeys_, kQueries = kQueries_, kStages = kStages_, kBlocks = kBlocks_;
  static constexpr int kWarps = kOutK * kOutD, kThreads = 32 * kWarps, kScoreWarps = kScoreK * kScoreQ;
  static constexpr int kScoreRows = kKeys / kScoreK, kScoreColumns = kQueries / kScoreQ;
  static constexpr int kOutRows = kKeys / kOutK, kOutColumns = kHead / kOutD;
  static_assert(kScoreWarps <= kWarps && kScoreRows % 16 == 0 && kScoreColumns % 16 == 0 && kOutRows % 16 == 0 && kOutColumns % 16 == 0,
                "a fragment is 16 rows and, in pairs, 16 columns");
  static constexpr int kScoreM = kScoreRows / 16, kScoreN = kScoreColumns / 8, kOutM = kOutRows / 16, kOutN = kOutColumns / 8;
  static constexpr int kKeyBytes = kKeys * kHead * 2, kQueryBytes = kQueries * kHead * 2, kScoreBytes = kKeys * kQueries * 2;
  static constexpr int kStageBytes = 2 * kQueryBytes, kRowBytes = 2 * kQueries * 4; /* q, do; lse2, delta */
  static constexpr int kBytes = 2 * kKeyBytes + 2 * kScoreBytes + kStages * (kStageBytes + kRowBytes);

  /* Warps that own the same keys in both divisions exchange P and dS among themselves alone. */
  static constexpr bool kApart = kScoreK == kOutK && kScoreQ == kOutD;
  static __device__ void wait_for_scores() {
    if (kApart) {
      asm volatile("bar.sync %0, %1;" ::"r"(threadIdx.x / 32 / kOutD + 1), "n"(32 * kOutD) : "memory");
    } else {
      __syncthreads();
    }
  }

  static __device__ int score_row() { return threadIdx.x / 32 / kScoreQ * kScoreRows; }
  static __device__ int score_column() { return threadIdx.x / 32 % kScoreQ * kScoreColumns; }
  static __device__ int out_row() { return threadIdx.x / 32 / kOutD * kOutRows; }
  static __device__ int out_column() { return threadIdx.x / 32 % kOutD * kOutColumns; }
};

/* p = exp(s - lse), 0 where a query does not see a key. S is transposed: rows are keys. ahead: of the thread's first
   query to its first key. */
template <int kM, int kN>
__device__ inline void probabilities_of_keys(float (&s)[kM][kN][4], const float* lse2, float factor, bool masked, int32_t ahead,
                                             int32_t window) {
#pragma unroll
  for (int n = 0; n < kN; n++) {
    const float2 lse = *reinterpret_cast<const float2*>(lse2 + 8 * n);
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) s[m][n][i] = fast_exp2(s[m][n][i] * factor - (i % 2 == 0 ? lse.x : lse.y));
  }
  if (!masked) return;
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int32_t behind = ahead + 8 * n + i % 2 - 16 * m - i / 2 * 8;
        if (behind < 0 || behind >= window) s[m][n][i] = 0;
      }
}

/* ds = p * (dp - delta), where dp began as -delta. */
template <int kM, int kN>
__device__ inline void multiply_elements(float (&ds)[kM][kN][4], const float (&p)[kM][kN][4]) {
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) ds[m][n][i] *= p[m][n][i];
}

/* A warp's part of P and dS, into shared memory. rows: lse2 and delta of the step; ahead: of its first query to the block's
   first key. */
template <class T, class Tile>
__device__ inline void scores_of_keys(uint32_t p_tile, uint32_t ds_tile, uint32_t k_tile, uint32_t v_tile, uint32_t q_tile,
                                      uint32_t do_tile, const float* rows, const ScoreRule& rule, int32_t ahead, int32_t window) {
  constexpr int kM = Tile::kScoreM, kN = Tile::kScoreN;
  const int lane = threadIdx.x % 32, row = Tile::score_row(), column = Tile::score_column();
  const float *lse2 = rows + column + lane % 4 * 2, *delta = lse2 + Tile::kQueries;
  const uint32_t skip = column * Tile::kHead * 2; /* to the warp's queries */
  float p[kM][kN][4] = {};
  multiply_rows<T, Tile::kHead>(p, k_tile, row, q_tile + skip);
  rule.apply(p);
  const int32_t first = ahead + column - row; /* of the warp's first query to its first key */
  const bool masked = first < Tile::kScoreRows - 1 || first + Tile::kScoreColumns > window;
  probabilities_of_keys(p, lse2, rule.factor, masked, first + lane % 4 * 2 - lane / 4, window);
  store_scores<T, Tile::kQueries>(p_tile, row, column, p);
  float ds[kM][kN][4];
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) ds[m][n][i] = -delta[8 * n + i % 2];
  multiply_rows<T, Tile::kHead>(ds, v_tile, row, do_tile + skip);
  multiply_elements(ds, p);
  if (rule.softcap != 0) {
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) ds[m][n][i] *= rule.derivative(p[m][n][i], lse2[8 * n + i % 2]);
  }
  store_scores<T, Tile::kQueries>(ds_tile, row, column, ds);
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) keys_kernel(const BackwardArguments<T> x) {
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kHead = Tile::kHead, kKeys = Tile::kKeys, kQueries = Tile::kQueries;
  /* The first keys of a sequence, which the most queries see, come first. */
  const int32_t kv_head = blockIdx.x % x.at.h_kv;
  const Place place = find_heaviest<kKeys>(x.at, blockIdx.x / x.at.h_kv);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(x.at, place.sequence);
  const int32_t first_key = place.tile * kKeys, count = sequence.query_count;
  const int32_t last = count - first_key > x.at.window ? min(count, first_key + kKeys - 1 + x.at.window) : count;
  const int32_t steps = (last - first_key + kQueries - 1) / kQueries, total = steps * x.at.group;

  const uint32_t k_tile = shared_address(memory), v_tile = k_tile + Tile::kKeyBytes;
  const uint32_t p_tile = v_tile + Tile::kKeyBytes, ds_tile = p_tile + Tile::kScoreBytes;
  const uint32_t stages = ds_tile + Tile::kScoreBytes, rows_at = stages + Tile::kStages * Tile::kStageBytes;
  const float* const rows = reinterpret_cast<const float*>(memory + (rows_at - k_tile));
  const auto load_step = [&](int32_t i) {
    const int32_t head = kv_head * x.at.group + i / steps, query = first_key + i % steps * kQueries, stage = i % Tile::kStages;
    const int64_t row = sequence.query_begin + query;
    const uint32_t to = stages + stage * Tile::kStageBytes;
    load_tile<T, kHead, kQueries, Tile::kThreads>(to, x.q + row * x.at.ld_q + head * x.at.d, x.at.ld_q, count - query, x.at);
    load_tile<T, kHead, kQueries, Tile::kThreads>(to + Tile::kQueryBytes, x.d_o + row * x.at.ld_o + head * x.at.d, x.at.ld_o,
                                                  count - query, x.at);
    for (int32_t r = threadIdx.x; r < 2 * kQueries; r += Tile::kThreads) {
      const float* from = (r < kQueries ? x.lse2 : x.delta) + x.line(head, row);
      const bool inside = query + r % kQueries < count;
      copy_4(rows_at + stage * Tile::kRowBytes + 4 * r, inside ? from + r % kQueries : from, inside);
    }
    close_copies();
  };
  const int64_t key_row = sequence.query_begin + first_key;
  load_tile<T, kHead, kKeys, Tile::kThreads>(k_tile, x.k + key_row * x.at.ld_k + kv_head * x.at.d, x.at.ld_k, count - first_key, x.at);
  load_tile<T, kHead, kKeys, Tile::kThreads>(v_tile, x.v + key_row * x.at.ld_v + kv_head * x.at.d, x.at.ld_v, count - first_key, x.at);
  load_step(0);

  const ScoreRule rule(x.at);
  const int row = Tile::out_row(), column = Tile::out_column();
  float dk[Tile::kOutM][Tile::kOutN][4] = {}, dv[Tile::kOutM][Tile::kOutN][4] = {};
  for (int32_t i = 0; i < total; i++) {
    wait_for_copies<0>();
    __syncthreads(); /* this step is here, and the last has been read */
    if (Tile::kStages == 2 && i + 1 < total) load_step(i + 1);
    const int32_t stage = i % Tile::kStages;
    const uint32_t q_tile = stages + stage * Tile::kStageBytes, do_tile = q_tile + Tile::kQueryBytes;
    if (Tile::kScoreWarps == Tile::kWarps || threadIdx.x < 32 * Tile::kScoreWarps) {
      scores_of_keys<T, Tile>(p_tile, ds_tile, k_tile, v_tile, q_tile, do_tile, rows + stage * 2 * kQueries, rule,
                              i % steps * kQueries, x.at.window);
    }
    Tile::wait_for_scores();
    multiply_tiles<T, kHead, kQueries>(dv, p_tile, row, do_tile, column);
    multiply_tiles<T, kHead, kQueries>(dk, ds_tile, row, q_tile, column);
    if (Tile::kStages == 1) {
      __syncthreads();
      if (i + 1 < total) load_step(i + 1);
    }
  }
  /* k and v are read no more: the gradients pass through their places. */
  float scale[Tile::kOutM][2], one[Tile::kOutM][2];
#pragma unroll
  for (int m = 0; m < Tile::kOutM; m++) scale[m][0] = scale[m][1] = x.at.scale, one[m][0] = one[m][1] = 1;
  const int64_t out = key_row + row;
  const int32_t left = count - first_key - row;
  store_rows<T, kHead>(x.dk + out * x.at.ld_k + kv_head * x.at.d, x.at.ld_k, left, k_tile, row, column, dk, scale, x.at);
  store_rows<T, kHead>(x.dv + out * x.at.ld_v + kv_head * x.at.d, x.at.ld_v, left, v_tile, row, column, dv, one, x.at);
}

template <int kHead_, int kWarps_, int kM_, int kKeys_, int kStages_, int kBlocks_>
struct QueryTile {
  static constexpr int kHead = kHead_, kWarps = kWarps_, kM = kM_, kKeys = kKeys_, kStages = kStages_, kBlocks = kBlocks_;
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kM * kWarps;
  static constexpr int kRowBytes = kRows * kHead * 2, kKeyBytes = kKeys * kHead * 2;
  static constexpr int kBytes = 2 * kRowBytes + kStages * 2 * kKeyBytes;
};

/* One tile of keys against a warp's queries. ahead: of the thread's first query to the tile's first key. */
template <class T, class Tile>
__device__ inline void step_of_queries(float (&dq)[Tile::kM][Tile::kHead / 8][4], uint32_t q_tile, uint32_t do_tile,
                                       uint32_t k_tile, const float (&lse2)[Tile::kM][2], const float (&delta)[Tile::kM][2],
                                       const ScoreRule& rule, int row, bool masked, int32_t ahead, int32_t window) {
  constexpr int kM = Tile::kM, kN = Tile::kKeys / 8;
  const int lane = threadIdx.x % 32;
  float p[kM][kN][4] = {};
  multiply_rows<T, Tile::kHead>(p, q_tile, row, k_tile);
  rule.apply(p);
  float ds[kM][kN][4];
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        p[m][n][i] = fast_exp2(p[m][n][i] * rule.factor - lse2[m][i / 2]);
        ds[m][n][i] = -delta[m][i / 2];
      }
  if (masked) {
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int32_t behind = ahead + 16 * m + i / 2 * 8 - (8 * n + lane % 4 * 2 + i % 2);
          if (behind < 0 || behind >= window) p[m][n][i] = 0;
        }
  }
  multiply_rows<T, Tile::kHead>(ds, do_tile, row, k_tile + Tile::kKeyBytes);
  multiply_elements(ds, p);
  if (rule.softcap != 0) {
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) ds[m][n][i] *= rule.derivative(p[m][n][i], lse2[m][i / 2]);
  }
  uint32_t left[kM][kN / 2][4];
  pack_left<T>(left, ds);
  multiply_columns<T, Tile::kHead>(dq, left, k_tile);
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) queries_kernel(const BackwardArguments<T> x) {
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kHead = Tile::kHead, kRows = Tile::kRows, kKeys = Tile::kKeys, kM = Tile::kM;
  const int32_t head = blockIdx.x % x.at.h, kv_head = head / x.at.group;
  const Place place = find_heaviest<kRows>(x.at, blockIdx.x / x.at.h);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(x.at, place.sequence);
  const int32_t count = sequence.query_count, first = ((count - 1) / kRows - place.tile) * kRows;
  const int32_t begin_tile = x.at.window > first ? 0 : (first - x.at.window + 1) / kKeys;
  const int32_t end_tile = (min(count, first + kRows) - 1) / kKeys;

  const uint32_t q_tile = shared_address(memory), do_tile = q_tile + Tile::kRowBytes, stages = do_tile + Tile::kRowBytes;
  const auto load_step = [&](int32_t tile) {
    const uint32_t to = stages + tile % Tile::kStages * 2 * Tile::kKeyBytes;
    const int64_t key_row = sequence.key_begin + static_cast<int64_t>(tile) * kKeys;
    const int32_t left = count - tile * kKeys;
    load_tile<T, kHead, kKeys, Tile::kThreads>(to, x.k + key_row * x.at.ld_k + kv_head * x.at.d, x.at.ld_k, left, x.at);
    load_tile<T, kHead, kKeys, Tile::kThreads>(to + Tile::kKeyBytes, x.v + key_row * x.at.ld_v + kv_head * x.at.d, x.at.ld_v, left, x.at);
    close_copies();
  };
  const int64_t query_row = sequence.query_begin + first;
  load_tile<T, kHead, kRows, Tile::kThreads>(q_tile, x.q + query_row * x.at.ld_q + head * x.at.d, x.at.ld_q, count - first, x.at);
  load_tile<T, kHead, kRows, Tile::kThreads>(do_tile, x.d_o + query_row * x.at.ld_o + head * x.at.d, x.at.ld_o, count - first, x.at);
  load_step(end_tile);

  const ScoreRule rule(x.at);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 * kM;
  float lse2[kM][2], delta[kM][2];
  const int64_t state = x.line(head, query_row + row);
  load_rows<kM>(lse2, x.lse2 + state, count - first - row);
  load_rows<kM>(delta, x.delta + state, count - first - row);
  float dq[kM][kHead / 8][4] = {};
  for (int32_t tile = end_tile; tile >= begin_tile; tile--) {
    wait_for_copies<0>();
    __syncthreads(); /* this tile is here, and the last has been read */
    if (Tile::kStages == 2 && tile > begin_tile) load_step(tile - 1);
    const int32_t ahead = first - tile * kKeys;
    const bool masked = ahead < kKeys - 1 || ahead + kRows > x.at.window;
    step_of_queries<T, Tile>(dq, q_tile, do_tile, stages + tile % Tile::kStages * 2 * Tile::kKeyBytes, lse2, delta, rule, row,
                             masked, ahead + row + lane / 4, x.at.window);
    if (Tile::kStages == 1) {
      __syncthreads();
      if (tile > begin_tile) load_step(tile - 1);
    }
  }
  float scale[kM][2];
#pragma unroll
  for (int m = 0; m < kM; m++) scale[m][0] = scale[m][1] = x.at.scale;
  store_rows<T, kHead>(x.dq + (query_row + row) * x.at.ld_q + head * x.at.d, x.at.ld_q, count - first - row, q_tile, row, 0, dq,
                       scale, x.at);
}

template <class T, class Tile>
cudaError_t launch_keys(cudaStream_t stream, const BackwardArguments<T>& x) {
  const cudaError_t error = cudaFuncSetAttribute(keys_kernel<T, Tile>, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kBytes);
  if (error != cudaSuccess) return error;
  const int64_t tiles = tile_bound(x.at, Tile::kKeys);
  keys_kernel<T, Tile><<<static_cast<unsigned>(tiles * x.at.h_kv), Tile::kThreads, Tile::kBytes, stream>>>(x);
  return cudaSuccess;
}

template <class T, class Tile>
cudaError_t launch_queries(cudaStream_t stream, const BackwardArguments<T>& x) {
  const cudaError_t error = cudaFuncSetAttribute(queries_kernel<T, Tile>, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kBytes);
  if (error != cudaSuccess) return error;
  const int64_t tiles = tile_bound(x.at, Tile::kRows);
  queries_kernel<T, Tile><<<static_cast<unsigned>(tiles * x.at.h), Tile::kThreads, Tile::kBytes, stream>>>(x);
  return cudaSuccess;
}

/* One for each size of head, in attention_backward_*.cu. shared_bytes: what a block may have on this card. */
template <class T>
cudaError_t launch_backward_64(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes);
template <class T>
cudaError_t launch_backward_128(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes);
template <class T>
cudaError_t launch_backward_256(cudaStream_t stream, const BackwardArguments<T>& x, int32_t shared_bytes);

}  // namespace oribi::attention
#endif
