/*
 * The producers of lora_matmul_sm90.cu for a weight in NF4: four warps. TMA brings x and the codes; each thread decodes the
 * 64 elements of a block, or of two, into a row of the weight's tile.
 *
 * Math        w = round(nf4[code] * (map[absmax] * absmax2 + offset)), the product in fp32, rounded once
 *
 * A block has one scale, so its 16 possible values are computed and rounded first; each code then picks its 16 bits with
 * four byte permutations, without any arithmetic: 3.3 instructions an element in all. One warp on each scheduler decodes, so nothing
 * hides its latencies but its own order: codes and scales of the next step are read while this one is decoded.
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

/* The steps over the weight that a block takes, tile after tile. */
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

/* Starts the copies of the stored scales of this thread's blocks: the word around absmax, and absmax2. */
template <class P>
__device__ inline void fetch_scales(const Walk<P>& walk, uint32_t to, int thread) {
  const int all = walk.a.rows * walk.a.row_blocks;
#pragma unroll
  for (int row = thread; row < P::kColumns; row += kDecoders) {
    const int block = block_of<P>(walk, row), word = block & ~3;
    sm90::copy_word(to + row * 8, walk.a.absmax + word, min(4, all - word));
    sm90::copy_word(to + row * 8 + 4, walk.a.absmax2 + block / 256, 4);
  }
}

/* The scale of a block whose copies have arrived. */
template <class P>
__device__ inline float scale_of(const Walk<P>& walk, uint32_t from, int row, uint32_t map, float offset) {
  uint32_t word;
  float absmax, absmax2;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(word), "=f"(absmax2) : "r"(from + row * 8) : "memory");
  const uint32_t code = word >> (block_of<P>(walk, row) % 4 * 8) & 255;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(absmax) : "r"(map + code * 4) : "memory");
  return __fadd_rn(__fmul_rn(absmax, absmax2), offset); /* two roundings, as bitsandbytes */
}

/* Starts the copy of a step's codes. */
template <class P>
__device__ inline void fetch_codes(const Shared<P>& s, const Ring<P::kCodeStages>& ring, const Walk<P>& walk) {
  sm90::barrier_wait(s.codes_empty(ring.stage), ring.parity ^ 1, sm90::Role::codes_producer, ring.stage);
  sm90::barrier_arrive_expect(s.codes_full(ring.stage), P::kCodeBytes);
  constexpr int kBoxes = P::kDx ? P::kColumns / 64 : 1; /* of 32 bytes in a row, the codes of a block */
#pragma unroll
  for (int box = 0; box < kBoxes; box++) {
    const int block = P::kDx ? walk.place.column / 64 + box : walk.step;
    const int row = P::kDx ? walk.step * kDepth : walk.place.column;
    sm90::load_tile(s.codes(ring.stage) + box * (P::kCodeBytes / kBoxes), &walk.a.w, block * 32, row, s.codes_full(ring.stage));
  }
}

/* The codes of one block. */
struct Codes {
  uint4 half[2];
};
__device__ inline Codes load_codes(uint32_t stage, int row) {
  /* The 32-byte swizzle of TMA: the halves of every other 128 bytes are exchanged. */
  const uint32_t at = stage + row * 32, other = (row >> 2 & 1) * 16;
  return {{load_shared(at + other), load_shared(at + (16 ^ other))}};
}

/* The codes of one block, as a row of the weight's tile. */
template <class T>
__device__ inline void decode_row(uint32_t tile, int row, const Codes& codes, float scale) {
  const Values values = values_of<T>(scale);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint4 c = codes.half[half];
    const uint32_t words[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      store_shared(tile + row * kRowBytes + (((half * 4 + i) ^ (row & 7)) << 4), decode(values, words[i]));
    }
  }
}

/* What a decoding thread carries from step to step: the codes and scales of the step that comes, and how far codes and
   stored scales have been fetched and read. */
template <class P>
struct Decoder {
  static constexpr int kBlocks = P::kColumns / kDecoders;
  const typename P::Args& a;
  const Shared<P>& s;
  const int thread = threadIdx.x;
  const float offset = __ldg(a.offset);
  Codes codes[kBlocks];
  float scale[kBlocks];
  Walk<P> code_walk{a}, scale_walk{a}, read_walk{a};
  Ring<P::kCodeStages> read, fetched;
  Ring<P::kScaleStages> scale_read, scale_fetched;
  int64_t left; /* steps whose codes have not been read */

  /* The second warp fetches codes: the first has x to fetch. */
  __device__ void fetch_more() {
    if (thread == 32 && code_walk.more()) fetch_codes<P>(s, fetched, code_walk);
    __syncwarp();
    fetched.advance(), code_walk.next();
  }
  __device__ void wait_for_codes() {
    if (left > 0) sm90::barrier_wait(s.codes_full(read.stage), read.parity, sm90::Role::decoder_of_codes, read.stage);
  }
  __device__ void read_codes(int block) { codes[block] = load_codes(s.codes(read.stage), thread + block * kDecoders); }
  __device__ void done_reading() {
    __syncwarp();
    if (left > 0 && thread % 32 == 0) sm90::barrier_arrive(s.codes_empty(read.stage));
    read.advance();
    left--;
  }
  __device__ void fetch_more_scales() {
    if (scale_walk.more()) fetch_scales<P>(scale_walk, s.scales(scale_fetched.stage), thread);
    sm90::copy_commit();
    scale_fetched.advance(), scale_walk.next();
  }
  __device__ void read_scales() {
    sm90::copy_wait<P::kScaleStages - 1>();
#pragma unroll
    for (int i = 0; i < kBlocks; i++) {
      scale[i] = scale_of<P>(read_walk, s.scales(scale_read.stage), thread + i * kDecoders, s.map(), offset);
    }
    scale_read.advance(), read_walk.next();
  }

  __device__ Decoder(const typename P::Args& a_, const Shared<P>& s_) : a(a_), s(s_) {
    left = (a.tiles - first_tile<P>() + tile_stride<P>() - 1) / tile_stride<P>() * a.steps;
    for (int k = 0; k < P::kCodeStages; k++) fetch_more();
    for (int k = 0; k < P::kScaleStages; k++) fetch_more_scales();
    read_scales();
    wait_for_codes();
    for (int i = 0; i < kBlocks; i++) read_codes(i);
    done_reading();
  }

  /* This thread's rows of the weight's tile in a stage. After a block its codes make room for those of the next step. */
  __device__ void step(int stage) {
    float now[kBlocks];
#pragma unroll
    for (int i = 0; i < kBlocks; i++) now[i] = scale[i];
    fetch_more();
    fetch_more_scales(); /* to where those of this step were: they have been read */
    read_scales();
#pragma unroll
    for (int i = 0; i < kBlocks; i++) {
      decode_row<typename P::T>(s.w(stage), thread + i * kDecoders, codes[i], now[i]);
      if (i == 0) wait_for_codes();
      read_codes(i);
    }
    sm90::async_proxy_fence();
    done_reading();
  }
};

/* What the first decoder also does: starts the copies of x, and of the weight's place where the adapter stands there. */
template <class P>
__device__ inline void start_copies(const Shared<P>& s, int stage, const CUtensorMap* x, int inner, int row, const CUtensorMap* b,
                                    int column) {
  sm90::barrier_arrive_expect(s.full(stage), kXBytes + (b == nullptr ? 0 : P::kWBytes));
  sm90::load_tile(s.x(stage), x, inner, row, s.full(stage));
  if (b != nullptr) load_weight<P>(s, stage, b, inner, column, 0);
}

template <class P>
__device__ inline void produce_nf4(const typename P::Args& a, const Shared<P>& s) {
  const int thread = threadIdx.x;
  Ring<P::kStages> ring;
  Decoder<P> decoder(a, s);
  const auto arrive = [&] {
    __syncwarp();
    if (thread % 32 == 0) sm90::barrier_arrive(s.full(ring.stage));
    ring.advance();
  };
  for (int tile = first_tile<P>(); tile < a.tiles; tile += tile_stride<P>()) {
    const Place place = place_of<P>(a, tile, 0);
    for (int step = 0; step < a.steps; step++) {
      sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::decoder, ring.stage);
      if (thread == 0) start_copies<P>(s, ring.stage, &a.x, step * kDepth, place.row, nullptr, 0);
      __syncwarp();
      decoder.step(ring.stage);
      arrive();
    }
    wait_for_previous(); /* for h */
    for (int part = 0; part < a.parts; part++) {
      if (!meets<P>(a, part, place.column)) continue;
      for (int inner = 0; inner < a.rank; inner += kDepth) {
        sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::decoder, ring.stage);
        if (thread == 0) start_copies<P>(s, ring.stage, &a.h[part], inner, place.row, &a.b[part], place.column - a.first[part]);
        arrive();
      }
    }
  }
}

}  // namespace lora90
}  // namespace oribi
#endif
