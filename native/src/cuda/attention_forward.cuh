/*
 * Math        S = scale * q.k, softcap * tanh(S / softcap);  P = softmax(S) over the visible keys;  o = P.v
 * Shapes      q, o (N,H,D)  k, v (rows,Hkv,D)  lse (N,H); a block owns kRows queries of one head, a warp 16 or 32 of them
 * Layout      row strides; 16-byte copies where every row allows them, element by element otherwise; D padded with zeros
 *             to kHead in shared memory alone
 * Precision   products of bf16 or fp16 on tensor cores with fp32 sums; S, its maximum and sum fp32; P is rounded to the
 *             storage type before it meets v, its sum is taken before the rounding
 * Saved       lse = log of the sum of exp(S), fp32, unless NULL
 * Writes      o =, lse =
 * Determinism bit-exact: a row meets its key tiles in one order, from the last
 * Limits      bf16 needs machine code or PTX of sm_80; fp16 of sm_75
 *
 * Flash attention (Dao 2023) with mma.sync. Tiles are visited from the diagonal downwards, so that those that need a mask
 * come first. K of the next tile is on its way while the softmax and P.v of this one run, V while q.k runs.
 */
#ifndef ORIBI_CUDA_ATTENTION_FORWARD_CUH
#define ORIBI_CUDA_ATTENTION_FORWARD_CUH

#include "cuda/attention_mma.cuh"

namespace oribi::attention {

/* kM: 16-row tiles of a warp. With 32 rows a key or value fragment is read from shared memory for two products, without
   which shared memory would be the limit. */
template <int kHead_, int kWarps_, int kM_, int kKeys_, int kBlocks_>
struct ForwardTile {
  static constexpr int kHead = kHead_, kWarps = kWarps_, kM = kM_, kKeys = kKeys_, kBlocks = kBlocks_;
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kM * kWarps;
  static constexpr int kBytes = (kRows + 2 * kKeys) * kHead * 2;
};

/* Maximum (of the scores before the factor) and sum of each of a thread's rows. */
template <int kM>
struct RowState {
  float max[kM][2], sum[kM][2];
};

/* Scores of keys that a row does not see become -infinity. first: position of the thread's first row less the tile's first key. */
template <int kM, int kN>
__device__ inline void mask_scores(float (&s)[kM][kN][4], int32_t first, int32_t window) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int32_t behind = first + 16 * m + i / 2 * 8 - (8 * n + lane % 4 * 2 + i % 2);
        if (behind < 0 || behind >= window) s[m][n][i] = -INFINITY;
      }
}

/* One step of the online softmax: s becomes exp(s - max), and o and sum relative to the new maximum. */
template <int kM, int kN, int kOut>
__device__ inline void softmax_step(float (&s)[kM][kN][4], float (&o)[kM][kOut][4], RowState<kM>& row, float factor) {
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float high = row.max[m][half];
#pragma unroll
      for (int n = 0; n < kN; n++) high = fmaxf(high, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 1));
      high = fmaxf(high, __shfl_xor_sync(kAllLanes, high, 2));
      /* A row that has seen nothing yet keeps -infinity: relative to 0 its terms are 0, not NaN. */
      const float shift = high == -INFINITY ? 0.0f : high * factor;
      const float decay = fast_exp2(row.max[m][half] * factor - shift);
      row.max[m][half] = high;
      float sum = row.sum[m][half] * decay;
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          s[m][n][i] = fast_exp2(s[m][n][i] * factor - shift);
          sum += s[m][n][i];
        }
      row.sum[m][half] = sum;
#pragma unroll
      for (int n = 0; n < kOut; n++) {
        o[m][n][2 * half] *= decay;
        o[m][n][2 * half + 1] *= decay;
      }
    }
}

/* o and lse of a warp's rows; first: the first of them within the sequence. */
template <class T, class Tile>
__device__ inline void write_rows(const ForwardArguments<T>& x, const Sequence& sequence, int32_t head, int32_t first,
                                  uint32_t tile, int row, const float (&o)[Tile::kM][Tile::kHead / 8][4],
                                  const RowState<Tile::kM>& state, float factor) {
  const int lane = threadIdx.x % 32;
  float inverse[Tile::kM][2];
#pragma unroll
  for (int m = 0; m < Tile::kM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float sum = state.sum[m][half];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      inverse[m][half] = 1.0f / sum;
      const int32_t query = first + 16 * m + 8 * half + lane / 4;
      if (x.lse != nullptr && lane % 4 == 0 && query < sequence.query_count) {
        x.lse[static_cast<int64_t>(sequence.query_begin + query) * x.at.h + head] =
            state.max[m][half] * (factor * kLn2) + logf(sum);
      }
    }
  T* out = x.o + static_cast<int64_t>(sequence.query_begin + first) * x.at.ld_o + head * x.at.d;
  store_rows<T, Tile::kHead>(out, x.at.ld_o, sequence.query_count - first, tile, row, 0, o, inverse, x.at);
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) forward_kernel(const ForwardArguments<T> x, int32_t tiles) {
  extern __shared__ __align__(1024) unsigned char memory[];
  constexpr int kHead = Tile::kHead, kRows = Tile::kRows, kKeys = Tile::kKeys, kM = Tile::kM;
  /* The heads of a group side by side: they read the same keys. */
  const int32_t kv_head = blockIdx.x / (tiles * x.at.group), rest = blockIdx.x % (tiles * x.at.group);
  const int32_t head = kv_head * x.at.group + rest % x.at.group;
  const Place place = find_tile<kRows>(x.at, rest / x.at.group);
  if (place.sequence < 0) return;
  const Sequence sequence = sequence_of(x.at, place.sequence);
  /* The last tile of a sequence, which sees the most keys, comes first. */
  const int32_t first = ((sequence.query_count - 1) / kRows - place.tile) * kRows;
  const int32_t position = first + sequence.hidden();
  const int32_t end = min(sequence.key_count, position + kRows);
  const int32_t begin_tile = x.at.window > position ? 0 : (position - x.at.window + 1) / kKeys;

  const uint32_t q_tile = shared_address(memory), k_tile = q_tile + kRows * kHead * 2, v_tile = k_tile + kKeys * kHead * 2;
  const T* k = x.k + static_cast<int64_t>(sequence.key_begin) * x.at.ld_k + kv_head * x.at.d;
  const T* v = x.v + static_cast<int64_t>(sequence.key_begin) * x.at.ld_v + kv_head * x.at.d;
  const auto load_keys = [&](uint32_t to, const T* from, int64_t ld, int32_t tile) {
    load_tile<T, kHead, kKeys, Tile::kThreads>(to, from + static_cast<int64_t>(tile) * kKeys * ld, ld,
                                               sequence.key_count - tile * kKeys, x.at);
    close_copies();
  };
  load_tile<T, kHead, kRows, Tile::kThreads>(
      q_tile, x.q + static_cast<int64_t>(sequence.query_begin + first) * x.at.ld_q + head * x.at.d, x.at.ld_q,
      sequence.query_count - first, x.at);
  int32_t tile = (end - 1) / kKeys;
  load_keys(k_tile, k, x.at.ld_k, tile);

  const ScoreRule rule(x.at);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 * kM;
  float o[kM][kHead / 8][4] = {};
  RowState<kM> state;
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) state.max[m][half] = -INFINITY, state.sum[m][half] = 0;

  for (; tile >= begin_tile; tile--) {
    wait_for_copies<0>();
    __syncthreads(); /* K is here, and the last tile's V has been read */
    load_keys(v_tile, v, x.at.ld_v, tile);
    float s[kM][kKeys / 8][4] = {};
    multiply_rows<T, kHead>(s, q_tile, row, k_tile);
    rule.apply(s);
    const int32_t ahead = position - tile * kKeys; /* of the block's first row to the tile's first key */
    if (ahead < kKeys - 1 || ahead + kRows > x.at.window) mask_scores(s, ahead + row + lane / 4, x.at.window);
    wait_for_copies<0>();
    __syncthreads(); /* V is here, and K has been read */
    if (tile > begin_tile) load_keys(k_tile, k, x.at.ld_k, tile - 1);
    softmax_step(s, o, state, rule.factor);
    uint32_t p[kM][kKeys / 16][4];
    pack_left<T>(p, s);
    multiply_columns<T, kHead>(o, p, v_tile);
  }
  write_rows<T, Tile>(x, sequence, head, first + row, q_tile, row, o, state, rule.factor);
}

template <class T, class Tile>
cudaError_t launch_forward_tile(cudaStream_t stream, const ForwardArguments<T>& x) {
  const cudaError_t error =
      cudaFuncSetAttribute(forward_kernel<T, Tile>, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile::kBytes);
  if (error != cudaSuccess) return error;
  const int64_t tiles = tile_bound(x.at, Tile::kRows);
  forward_kernel<T, Tile><<<static_cast<unsigned>(tiles * x.at.h), Tile::kThreads, Tile::kBytes, stream>>>(
      x, static_cast<int32_t>(tiles));
  return cudaSuccess;
}

/* One for each size of head, in attention_forward_*.cu, so that they compile apart. */
template <class T>
cudaError_t launch_forward_64(cudaStream_t stream, const ForwardArguments<T>& x);
template <class T>
cudaError_t launch_forward_128(cudaStream_t stream, const ForwardArguments<T>& x);
template <class T>
cudaError_t launch_forward_256(cudaStream_t stream, const ForwardArguments<T>& x);

}  // namespace oribi::attention
#endif
