/*
 * The tensor-core building blocks of attention: tiles in shared memory and the two products of them.
 *
 * A tile holds rows of kHead 16-bit elements. A row is made of 16-byte chunks, and chunk c of row r lies at c ^ (r % 8):
 * the eight rows that one ldmatrix phase reads then lie in different banks, and so do the eight chunks of a store.
 *
 * The accumulator of one product is, rounded and packed, the left operand of the next: fragments are those of
 * cuda/mma.cuh. Below sm_80 there is no cp.async, and a tile is copied through registers.
 */
#ifndef ORIBI_CUDA_ATTENTION_MMA_CUH
#define ORIBI_CUDA_ATTENTION_MMA_CUH

#include "cuda/attention_layout.cuh"
#include "cuda/mma.cuh"

namespace oribi::attention {

/* Byte offset of chunk c of row r. */
template <int kHead>
__device__ inline uint32_t tile_offset(int r, int c) {
  return r * (2 * kHead) + ((c ^ (r & 7)) << 4);
}

/* The same for a tile of scores, whose rows may be as short as 16 elements: eight rows then lie in fewer lines of 128 bytes,
   and the chunks of a line are exchanged by the number of the line. */
template <int kColumns>
__device__ inline uint32_t score_offset(int r, int c) {
  constexpr int kChunks = kColumns / kChunk, kRowsInLine = kChunks >= 8 ? 1 : 8 / kChunks;
  return r * (2 * kColumns) + ((c ^ (r / kRowsInLine & (kChunks >= 8 ? 7 : kChunks - 1))) << 4);
}

/* 16 bytes to shared memory, zeros where not inside; complete after wait_for_copies. */
__device__ inline void copy_16(uint32_t to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
#else
  store_16(to, inside ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0));
#endif
}

__device__ inline void copy_4(uint32_t to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(inside ? 4 : 0) : "memory");
#else
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(inside ? *static_cast<const uint32_t*>(from) : 0u) : "memory");
#endif
}

/* Until at most kLeft of the groups that this thread closed are under way. */
template <int kLeft>
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

/* tile[kRows][kHead] = rows of x, zeros beyond `rows` and beyond d. */
template <class T, int kHead, int kRows, int kThreads>
__device__ inline void load_tile(uint32_t tile, const T* x, int64_t ld, int32_t rows, const Layout& at) {
  constexpr int kChunks = kHead / kChunk, kStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kStep == 0, "a thread copies one column of chunks");
  const int first = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
  const T* from = x + first * ld + chunk * kChunk;
  if (at.wide) {
    const bool inside = chunk * kChunk < at.d;
#pragma unroll
    for (int r = 0; r < kRows; r += kStep, from += kStep * ld) {
      const bool here = inside && first + r < rows;
      copy_16(tile + tile_offset<kHead>(first + r, chunk), here ? from : x, here);
    }
    return;
  }
#pragma unroll 1
  for (int r = first; r < kRows; r += kStep, from += kStep * ld) {
    alignas(16) T pack[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; i++) {
      pack[i] = r < rows && chunk * kChunk + i < at.d ? from[i] : from_float<T>(0.0f);
    }
    store_16(tile + tile_offset<kHead>(r, chunk), *reinterpret_cast<const uint4*>(pack));
  }
}

/* c[16 kM][8 kN] += A * transpose(B): rows row .. of tile a, and the first rows of tile b. */
template <class T, int kHead, int kM, int kN>
__device__ inline void multiply_rows(float (&c)[kM][kN][4], uint32_t a, int row, uint32_t b) {
  const int lane = threadIdx.x % 32;
  const uint32_t a_at = a + tile_offset<kHead>(row + (lane & 15), lane >> 4);
  const uint32_t b_at = b + tile_offset<kHead>((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
#pragma unroll
  for (int k = 0; k < kHead / 16; k++) {
    /* Two chunks further: tiles begin at multiples of 128 bytes, so the swizzle is an exclusive or of the address. */
    const uint32_t flip = (k & 3) << 5, skip = (k >> 2) << 7;
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; m++) load_matrices(left[m], (a_at ^ flip) + skip + m * 16 * 2 * kHead);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      load_matrices(right, (b_at ^ flip) + skip + n * 8 * 2 * kHead);
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma<T>(c[m][n], left[m], right[0], right[1]);
        mma<T>(c[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/* c[16 kM][kHead] += A * B: A of 16 kK columns in registers, B the first rows of a tile. */
template <class T, int kHead, int kM, int kK>
__device__ inline void multiply_columns(float (&c)[kM][kHead / 8][4], const uint32_t (&a)[kM][kK][4], uint32_t b) {
  const int lane = threadIdx.x % 32;
  const uint32_t b_at = b + tile_offset<kHead>(lane & 15, lane >> 4);
#pragma unroll
  for (int k = 0; k < kK; k++) {
#pragma unroll
    for (int n = 0; n < kHead / 8; n += 2) {
      uint32_t right[4];
      load_matrices_transposed(right, (b_at ^ ((n & 6) << 4)) + ((n >> 3) << 7) + k * 16 * 2 * kHead);
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma<T>(c[m][n], a[m][k], right[0], right[1]);
        mma<T>(c[m][n + 1], a[m][k], right[2], right[3]);
      }
    }
  }
}

/* c[16 kM][8 kN] += A * B: A rows `row` .. of a tile of kInner columns, B columns `column` .. of a tile, all in shared memory. */
template <class T, int kHead, int kInner, int kM, int kN>
__device__ inline void multiply_tiles(float (&c)[kM][kN][4], uint32_t a, int row, uint32_t b, int column) {
  const int lane = threadIdx.x % 32;
  const uint32_t b_at = b + tile_offset<kHead>(lane & 15, (lane >> 4) + column / kChunk);
#pragma unroll
  for (int k = 0; k < kInner / 16; k++) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; m++) {
      load_matrices(left[m], a + score_offset<kInner>(row + 16 * m + (lane & 15), 2 * k + (lane >> 4)));
    }
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t right[4];
      load_matrices_transposed(right, (b_at ^ ((n & 6) << 4)) + ((n >> 3) << 7) + k * 16 * 2 * kHead);
#pragma unroll
      for (int m = 0; m < kM; m++) {
        mma<T>(c[m][n], left[m], right[0], right[1]);
        mma<T>(c[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/* An accumulator, rounded, as the left operand of a product. */
template <class T, int kM, int kN>
__device__ inline void pack_left(uint32_t (&a)[kM][kN / 2][4], const float (&c)[kM][kN][4]) {
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++) {
      a[m][n / 2][n % 2 * 2] = pack_pair<T>(c[m][n][0], c[m][n][1]);
      a[m][n / 2][n % 2 * 2 + 1] = pack_pair<T>(c[m][n][2], c[m][n][3]);
    }
}

/* Rows `row` .., columns `column` .. of a tile of scores = c, rounded. */
template <class T, int kColumns, int kM, int kN>
__device__ inline void store_scores(uint32_t tile, int row, int column, const float (&c)[kM][kN][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint32_t to = tile + score_offset<kColumns>(row + 16 * m + 8 * half + lane / 4, column / kChunk + n) + lane % 4 * 4;
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(pack_pair<T>(c[m][n][2 * half], c[m][n][2 * half + 1])) : "memory");
      }
}

/* y = c * factor of each row, by way of rows `row` .. and columns `column` .. of a tile, which only this warp still uses.
   y begins at that row and at column 0. */
template <class T, int kHead, int kM, int kN>
__device__ inline void store_rows(T* y, int64_t ld, int32_t rows, uint32_t tile, int row, int column, const float (&c)[kM][kN][4],
                                  const float (&factor)[kM][2], const Layout& at) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int n = 0; n < kN; n++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint32_t to = tile + tile_offset<kHead>(row + 16 * m + 8 * half + lane / 4, column / kChunk + n) + lane % 4 * 4;
        const uint32_t pair = pack_pair<T>(c[m][n][2 * half] * factor[m][half], c[m][n][2 * half + 1] * factor[m][half]);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(pair) : "memory");
      }
  __syncwarp();
#pragma unroll 4
  for (int i = lane; i < 16 * kM * kN; i += 32) {
    const int r = i / kN, chunk = column / kChunk + i % kN;
    if (r >= rows || chunk * kChunk >= at.d) continue;
    const uint4 pack = load_16(tile + tile_offset<kHead>(row + r, chunk));
    T* to = y + r * ld + chunk * kChunk;
    if (at.wide) {
      *reinterpret_cast<uint4*>(to) = pack;
    } else {
      const uint32_t words[4] = {pack.x, pack.y, pack.z, pack.w};
#pragma unroll
      for (int e = 0; e < kChunk; e++) {
        const unsigned short bits = static_cast<unsigned short>(words[e / 2] >> (e % 2 * 16));
        if (chunk * kChunk + e < at.d) to[e] = *reinterpret_cast<const T*>(&bits);
      }
    }
  }
}

/* A thread's rows of lse2 or delta; beyond the sequence 0, which leaves dS of rows of zeros 0. */
template <int kM>
__device__ inline void load_rows(float (&to)[kM][2], const float* from, int32_t rows) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int m = 0; m < kM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int32_t r = 16 * m + 8 * half + lane / 4;
      to[m][half] = r < rows ? from[r] : 0.0f;
    }
}

__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/* How a product q.k becomes a score in units of log 2, so that exp is ex2 alone. With a positive scale and no softcap that is
   one multiplication, left to the fused multiply-add in front of ex2; otherwise the scores are made first. */
struct ScoreRule {
  float factor; /* of what `apply` leaves */
  float scale, softcap;
  bool plain;

  __device__ explicit ScoreRule(const Layout& at)
      : factor(at.softcap == 0 && at.scale > 0 ? at.scale * kLog2E : kLog2E), scale(at.scale), softcap(at.softcap),
        plain(at.softcap == 0 && at.scale > 0) {}

  /* tanh by way of ex2: its absolute error is that of one rounding, which is what a score needs; tanh.approx errs by 2^-11. */
  __device__ float capped(float x) const {
    const float e = fast_exp2(x * scale / softcap * (2 * kLog2E));
    return softcap * (1 - __fdividef(2.0f, e + 1));
  }

  /* Of a product, where `plain` does not hold. */
  __device__ float score(float x) const { return softcap == 0 ? x * scale : capped(x); }

  template <int kM, int kN>
  __device__ void apply(float (&s)[kM][kN][4]) const {
    if (plain) return;
#pragma unroll
    for (int m = 0; m < kM; m++)
#pragma unroll
      for (int n = 0; n < kN; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[m][n][i] = score(s[m][n][i]);
  }

  /* 1 - tanh^2 of a score, found again from its probability: score = log2 p + lse2. */
  __device__ float derivative(float p, float lse2) const {
    const float t = fminf(fmaxf((fast_log2(p) + lse2) * (kLn2 / softcap), -1.0f), 1.0f);
    return 1 - t * t;
  }
};

}  // namespace oribi::attention
#endif
