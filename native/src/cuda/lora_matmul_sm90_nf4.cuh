/*
 * The producers of lora_matmul_sm90.cu for a weight in NF4: four warps. TMA brings x and the codes; each thread decodes the
 * 64 elements of a block, or of two, into a row of the weight's tile.
 *
 * Math        w = round(nf4[code] * (map[absmax] * absmax2 + offset)), the product in fp32, rounded once
 *
 * A block has one scale, so its 16 possible values are computed and rounded first; each code then picks its 16 bits with
 * four byte permutations, without any arithmetic: 3.3 instructions an element in all.
 */
#ifndef ORIBI_CUDA_LORA_MATMUL_SM90_NF4_CUH
#define ORIBI_CUDA_LORA_MATMUL_SM90_NF4_CUH

#include "cuda/lora_matmul_sm90_producer.cuh"

namespace oribi {
namespace lora90 {

/* The 16 values of a block: their low bytes and their high bytes, four to a register. */
struct Values {
  uint32_t low[4], high[4];
};

/* Four of the eight bytes of a and b, one for each four bits of selector; 8 in them spreads the byte's sign instead. The
   intrinsic __byte_perm has no such 8. */
__device__ inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selector));
  return bytes;
}

template <class T>
__device__ inline Values values_of(float scale) {
  constexpr float kNf4[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                              -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                              0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
                              0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};
  Values v;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t a = sm90::pair<T>(kNf4[4 * i] * scale, kNf4[4 * i + 1] * scale);
    const uint32_t b = sm90::pair<T>(kNf4[4 * i + 2] * scale, kNf4[4 * i + 3] * scale);
    v.low[i] = permute(a, b, 0x6420);
    v.high[i] = permute(a, b, 0x7531);
  }
  return v;
}

/* Four of eight bytes of a plane, for the codes 1, 0, 3, 2 of `codes`, whose fourth bits are the bytes of `upper`. */
__device__ inline uint32_t pick(const uint32_t (&plane)[4], uint32_t codes, uint32_t upper) {
  const uint32_t below = permute(plane[0], plane[1], codes), above = permute(plane[2], plane[3], codes);
  return (above & upper) | (below & ~upper);
}

/* Eight elements: a byte holds two codes, the first one high. */
__device__ inline uint4 decode(const Values& v, uint32_t codes) {
  const uint32_t index = codes & 0x77777777, left = codes << 4;
  /* The sign of a byte is the fourth bit of its high code; moved left, of its low code. */
  const uint32_t upper0 = permute(codes, left, 0x9D8C), upper1 = permute(codes, left, 0xBFAE);
  const uint32_t low0 = pick(v.low, index, upper0), high0 = pick(v.high, index, upper0);
  const uint32_t low1 = pick(v.low, index >> 16, upper1), high1 = pick(v.high, index >> 16, upper1);
  return make_uint4(permute(low0, high0, 0x4051), permute(low0, high0, 0x6273), permute(low1, high1, 0x4051),
                    permute(low1, high1, 0x6273));
}

__device__ inline uint4 load_shared(uint32_t from) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}
__device__ inline void store_shared(uint32_t to, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

/* All steps over the weight that this block takes, tile after tile. */
template <class P>
struct Walk {
  const typename P::Args& a;
  int tile, step = 0;
  Place place;
  __device__ explicit Walk(const typename P::Args& args) : a(args), tile(first_tile<P>()), place(place_of<P>(args, tile, 0)) {}
  __device__ bool more() const { return tile < a.tiles; }
  __device__ void next() {
    if (++step < a.steps) return;
    step = 0;
    tile += tile_stride<P>();
    if (more()) place = place_of<P>(a, tile, 0);
  }
};

/* Row r of a tile is the weight's row place.column + r in the forward pass; for dx it is row r % 64 of the step, and of that
   the block r / 64. Either way it is one block of 64 elements. */
template <class P>
__device__ inline int block_of(const Walk<P>& walk, int r) {
  const int row = P::kDx ? walk.step * kDepth + r % 64 : walk.place.column + r;
  const int block = P::kDx ? walk.place.column / 64 + r / 64 : walk.step;
  const bool inside = row < walk.a.rows && block < walk.a.row_blocks;
  return inside ? row * walk.a.row_blocks + block : 0; /* outside, any scale: those columns of y are not stored */
}

constexpr int kDecoders = 128;

/* The stored scales of this thread's blocks, on their way. */
template <int kBlocks>
struct Scales {
  uint32_t absmax[kBlocks];
  float absmax2[kBlocks];
};
template <class P, int kBlocks>
__device__ inline void fetch(Scales<kBlocks>& s, const Walk<P>& walk, int thread) {
  if (!walk.more()) return;
#pragma unroll
  for (int i = 0; i < kBlocks; i++) {
    const int block = block_of<P>(walk, thread + i * kDecoders);
    s.absmax[i] = __ldg(walk.a.absmax + block);
    s.absmax2[i] = __ldg(walk.a.absmax2 + block / 256);
  }
}

/* Starts the copy of the next step's codes. */
template <class P>
__device__ inline void fetch_codes(const Shared<P>& s, Ring<P::kCodeStages>& ring, Walk<P>& walk) {
  if (!walk.more()) return;
  sm90::barrier_wait(s.codes_empty(ring.stage), ring.parity ^ 1, sm90::Role::codes_producer, ring.stage);
  sm90::barrier_arrive_expect(s.codes_full(ring.stage), P::kCodeBytes);
  constexpr int kBoxes = P::kDx ? P::kColumns / 64 : 1; /* of 32 bytes in a row, the codes of a block */
#pragma unroll
  for (int box = 0; box < kBoxes; box++) {
    const int block = P::kDx ? walk.place.column / 64 + box : walk.step;
    const int row = P::kDx ? walk.step * kDepth : walk.place.column;
    sm90::load_tile(s.codes(ring.stage) + box * (P::kCodeBytes / kBoxes), &walk.a.w, block * 32, row, s.codes_full(ring.stage));
  }
  ring.advance();
  walk.next();
}

/* This thread's rows of the weight's tile, from the codes of a stage. */
template <class P, int kBlocks>
__device__ inline void decode_step(const Shared<P>& s, const Ring<P::kStages>& to, const Ring<P::kCodeStages>& from,
                                   const float (&scale)[kBlocks], int thread) {
  sm90::barrier_wait(s.codes_full(from.stage), from.parity, sm90::Role::decoder_of_codes, from.stage);
  uint4 codes[kBlocks][2];
#pragma unroll
  for (int i = 0; i < kBlocks; i++) {
    const int row = thread + i * kDecoders;
    /* The 32-byte swizzle of TMA: the halves of every other 128 bytes are exchanged. */
    const uint32_t at = s.codes(from.stage) + row * 32, other = (row >> 2 & 1) * 16;
    codes[i][0] = load_shared(at + other);
    codes[i][1] = load_shared(at + (16 ^ other));
  }
  __syncwarp();
  if (thread % 32 == 0) sm90::barrier_arrive(s.codes_empty(from.stage));
  sm90::barrier_wait(s.empty(to.stage), to.parity ^ 1, sm90::Role::decoder, to.stage);
#pragma unroll
  for (int i = 0; i < kBlocks; i++) {
    const int row = thread + i * kDecoders;
    const uint32_t at = s.w(to.stage) + row * kRowBytes;
    const Values values = values_of<typename P::T>(scale[i]);
    const uint32_t words[8] = {codes[i][0].x, codes[i][0].y, codes[i][0].z, codes[i][0].w,
                               codes[i][1].x, codes[i][1].y, codes[i][1].z, codes[i][1].w};
#pragma unroll
    for (int c = 0; c < 8; c++) store_shared(at + ((c ^ (row & 7)) << 4), decode(values, words[c]));
  }
  sm90::async_proxy_fence();
}

/* What the first decoder also does: starts the copies of x, and of the weight's place where the adapter stands there. */
template <class P>
__device__ inline void start_copies(const Shared<P>& s, const Ring<P::kStages>& ring, const CUtensorMap* x, int inner, int row,
                                    const CUtensorMap* b, int column) {
  sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::producer, ring.stage);
  sm90::barrier_arrive_expect(s.full(ring.stage), kXBytes + (b == nullptr ? 0 : P::kWBytes));
  sm90::load_tile(s.x(ring.stage), x, inner, row, s.full(ring.stage));
  if (b != nullptr) load_weight<P>(s, ring.stage, b, inner, column, 0);
}

template <class P>
__device__ inline void produce_nf4(const typename P::Args& a, const Shared<P>& s) {
  constexpr int kBlocks = P::kColumns / kDecoders;
  const int thread = threadIdx.x;
  const float offset = __ldg(a.offset);
  Ring<P::kStages> ring;
  Ring<P::kCodeStages> codes, codes_ahead;
  Walk<P> walk(a), walk_ahead(a);
  for (int k = 0; k < P::kCodeStages - 1 && thread == 0; k++) fetch_codes<P>(s, codes_ahead, walk_ahead);
  Scales<kBlocks> stored;
  fetch<P>(stored, walk, thread);
  const auto arrive = [&] {
    __syncwarp();
    if (thread % 32 == 0) sm90::barrier_arrive(s.full(ring.stage));
    ring.advance();
  };
  while (walk.more()) {
    const Place place = walk.place;
    for (int64_t step = 0; step < a.steps; step++) {
      if (thread == 0) {
        fetch_codes<P>(s, codes_ahead, walk_ahead);
        start_copies<P>(s, ring, &a.x, static_cast<int>(step) * kDepth, place.row, nullptr, 0);
      }
      __syncwarp();
      float scale[kBlocks];
#pragma unroll
      for (int i = 0; i < kBlocks; i++) {
        float map;
        asm volatile("ld.shared.f32 %0, [%1];" : "=f"(map) : "r"(s.map() + stored.absmax[i] * 4) : "memory");
        scale[i] = __fadd_rn(__fmul_rn(map, stored.absmax2[i]), offset); /* two roundings, as bitsandbytes */
      }
      walk.next();
      fetch<P>(stored, walk, thread);
      decode_step<P>(s, ring, codes, scale, thread);
      codes.advance();
      arrive();
    }
    for (int part = 0; part < a.parts; part++) {
      if (!meets<P>(a, part, place.column)) continue;
      for (int inner = 0; inner < a.rank; inner += kDepth) {
        if (thread == 0) start_copies<P>(s, ring, &a.h[part], inner, place.row, &a.b[part], place.column - a.first[part]);
        __syncwarp();
        sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::decoder, ring.stage);
        arrive();
      }
    }
  }
}

}  // namespace lora90
}  // namespace oribi
#endif
