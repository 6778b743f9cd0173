/*
 * The kernel of grouped_sm90*.cu: what a block does. A warpgroup of producers fills a ring of stages, two warpgroups of consumers
 * multiply what is in them, 64 rows of a tile each; a block computes one tile after another.
 */
#ifndef ORIBI_CUDA_GROUPED_SM90_KERNEL_CUH
#define ORIBI_CUDA_GROUPED_SM90_KERNEL_CUH

#include "cuda/grouped_sm90_plan.cuh"
#include "cuda/mma.cuh"

namespace oribi::grouped90 {

/* -------------------------------------------------------------------------------------------------------- producer */

/* The 16 bytes of each row that a thread of the producers copies, where rows are read elsewhere than they stand, and where they go:
   every sixteenth row of a slab from its own on. */
struct Spot {
  int row = static_cast<int>(threadIdx.x) / 8, chunk = threadIdx.x % 8;
  uint32_t place = row * kRowBytes + ((chunk ^ (row & 7)) << 4);
  static constexpr int kStep = 16;
  static constexpr uint32_t kStepBytes = kStep * kRowBytes;
};

/* The rows of x for y, or of dy for dx: the same in each step of a tile. */
template <class P>
class RowsAlong {
 public:
  __device__ RowsAlong(const grouped::Arguments& at, const Tile& t) : inner_(at.inner) {
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = t.row + spot_.row + i * Spot::kStep;
      from_[i] = row < t.end ? static_cast<const typename P::T*>(at.left) + at.left_row[row] * at.ld_left : nullptr;
    }
  }
  /* Rows beyond the expert's stay what they were; they are not stored. */
  __device__ void copy(const Shared<P>& s, int stage, int step) {
    const int64_t k = static_cast<int64_t>(step) * kDepth + spot_.chunk * 8;
    const bool inside = k < inner_;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      if (from_[i] == nullptr) continue;
      sm90::copy_chunk(s.left(stage) + spot_.place + i * Spot::kStepBytes, inside ? from_[i] + k : from_[i], inside ? 16 : 0);
    }
  }

 private:
  static constexpr int kCopies = kRows / Spot::kStep;
  const Spot spot_;
  const int64_t inner_;
  const typename P::T* from_[kCopies];
};

/* The rows of an operand of dW: others in each step. One of these has every other step, so that their places are read two steps
   before they are needed: a step alone is shorter than the way to memory and back behind a step's copies. */
template <class P>
class RowsAcross {
 public:
  __device__ RowsAcross(const grouped::Arguments& at, const Tile& t, int step)
      : rows_(P::kGathersLeft ? at.left_row : at.right_row),
        ld_(P::kGathersLeft ? at.ld_left : at.ld_right),
        end_(t.end),
        row_(t.begin + step * kDepth + spot_.row) {
    const int64_t column = (P::kGathersLeft ? t.row : t.column) + spot_.chunk * 8, width = P::kGathersLeft ? at.rows : at.columns;
    from_ = static_cast<const typename P::T*>(P::kGathersLeft ? at.left : at.right) + column;
    slabs_ = static_cast<int>(width - column + kSlab - 1) / kSlab; /* beyond: columns that dW does not have */
    find();
  }
  /* Rows beyond the expert's stay what they were, until the consumers blank them. */
  __device__ void copy(const Shared<P>& s, int stage, int) {
    const uint32_t to = (P::kGathersLeft ? s.left(stage) : s.right(stage)) + spot_.place;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      if (place_[i] < 0) continue;
      const typename P::T* from = from_ + place_[i] * ld_;
#pragma unroll
      for (int slab = 0; slab < kSlabs; slab++) {
        if (slab < slabs_) sm90::copy_chunk(to + slab * kSlabBytes + i * Spot::kStepBytes, from + slab * kSlab, 16);
      }
    }
    row_ += 2 * kDepth;
    find();
  }

 private:
  static constexpr int kCopies = kDepth / Spot::kStep, kSlabs = (P::kGathersLeft ? kRows : kColumns) / kSlab;
  __device__ void find() {
#pragma unroll
    for (int i = 0; i < kCopies; i++) place_[i] = row_ + i * Spot::kStep < end_ ? rows_[row_ + i * Spot::kStep] : -1;
  }
  const Spot spot_;
  const int32_t* rows_;
  const int64_t ld_;
  const typename P::T* from_;
  const int end_;
  int row_, slabs_, place_[kCopies];
};

/* TMA's part of a stage; one thread. */
template <class P>
__device__ inline void load_stage(const Arguments& a, const Shared<P>& s, int stage, const Tile& t, int step) {
  const uint32_t full = s.full(stage), left = s.left(stage), right = s.right(stage);
  /* Of a tile that ends within the first consumer's rows the second's are not fetched. */
  const bool half = !P::kDw && !P::kGathersLeft && t.end - t.row <= 64;
  sm90::barrier_arrive_expect(full, P::kTmaBytes - (half ? kSlabBytes : 0));
  const int k = t.begin + step * kDepth;
  const auto of_slabs = [](int slabs, auto&& load) {
    for (int slab = 0; slab < slabs; slab++) load(slab * kSlabBytes, slab * kSlab);
  };
  if constexpr (P::kDw) {
    if (!P::kGathersLeft) of_slabs(kRows / kSlab, [&](uint32_t to, int m) { sm90::load_tile(left + to, &a.left, t.row + m, k, full); });
    if (!P::kGathersRight) of_slabs(kColumns / kSlab, [&](uint32_t to, int m) { sm90::load_tile(right + to, &a.right, t.column + m, k, full); });
  } else {
    if (!P::kGathersLeft) sm90::load_tile(left, &a.left, k, t.row, full);
    if (!P::kGathersLeft && !half) sm90::load_tile(left + kSlabBytes, &a.left, k, t.row + 64, full);
    if (P::kForm == Grouped::kForward) sm90::load_tile(right, &a.right, k, t.column, t.expert, full);
    if (P::kForm == Grouped::kDx) {
      of_slabs(kColumns / kSlab, [&](uint32_t to, int m) { sm90::load_tile(right + to, &a.right, t.column + m, k, t.expert, full); });
    }
  }
}

template <class P>
__device__ inline void wait_for_room(const Shared<P>& s, const Ring<kStages>& ring) {
  sm90::barrier_wait(s.empty(ring.stage), ring.parity ^ 1, sm90::Role::producer, ring.stage);
}

/* Fills the ring, in the order in which the consumers read it: one thread, or, where rows are gathered, the whole warpgroup. */
template <class P>
__device__ inline void produce(const Arguments& a, const Shared<P>& s) {
  Walk<P> walk(a.at, s);
  Ring<kStages> ring;
  const auto fill = [&](const Tile& t, int step) {
    wait_for_room<P>(s, ring);
    if (threadIdx.x == 0) load_stage<P>(a, s, ring.stage, t, step);
  };
  const auto copy = [&](auto& rows, int step) {
    rows.copy(s, ring.stage, step);
    sm90::copy_arrive(s.full(ring.stage));
    ring.advance();
  };
  for (Tile t; walk.next(&t);) {
    const int steps = steps_of<P>(a.at, t);
    if constexpr (!P::kGathered) {
      for (int step = 0; step < steps; step++, ring.advance()) fill(t, step);
    } else if constexpr (!P::kDw) {
      RowsAlong<P> rows(a.at, t);
      for (int step = 0; step < steps; step++) {
        fill(t, step);
        copy(rows, step);
      }
    } else {
      RowsAcross<P> even(a.at, t, 0), odd(a.at, t, 1);
      for (int step = 0; step < steps; step += 2) {
        fill(t, step);
        copy(even, step);
        if (step + 1 == steps) break;
        fill(t, step + 1);
        copy(odd, step + 1);
      }
    }
  }
}

/* -------------------------------------------------------------------------------------------------------- consumer */

/* The second consumer begins after the first one's second step. From then on they store their rows at different times,
   and one has the tensor cores for itself while the other stores. */
constexpr int kStaggerBarrier = 3;

/* Tells the producer that one more warp has done with this stage. */
template <class P>
__device__ inline void release(const Shared<P>& s, int stage) {
  if (threadIdx.x % 32 == 0) sm90::barrier_arrive(s.empty(stage));
}

/* d = (add ? d : 0) + the products of 16 of a stage's 64 inner elements. */
template <class P>
__device__ inline void multiply(float (&d)[kColumns / 2], const Shared<P>& s, int stage, int consumer, int k16, int add) {
  constexpr uint32_t kLeftStep = P::kLeftTransposed ? 16 * kRowBytes : 32, kRightStep = P::kRightTransposed ? 16 * kRowBytes : 32;
  const uint64_t left = sm90::tile_descriptor(s.left(stage) + consumer * kSlabBytes + k16 * kLeftStep, P::kLeftTransposed ? kSlabBytes : 0);
  const uint64_t right = sm90::tile_descriptor(s.right(stage) + k16 * kRightStep, P::kRightTransposed ? kSlabBytes : 0);
  sm90::wgmma<typename P::T, P::kRightTransposed, P::kLeftTransposed>(d, left, right, add);
}

/* The rows of a stage from `rows` on, which are those of the next expert or of nobody, become zeros, of both operands: what
   stands there may be no number. Each consumer does it for all that it reads; both write the same to the right operand. */
template <class P>
__device__ inline void blank(const Shared<P>& s, int stage, int consumer, int rows) {
  const auto blank_slab = [rows](uint32_t slab) {
    for (uint32_t at = rows * kRowBytes + threadIdx.x % 128 * 16; at < kSlabBytes; at += 128 * 16) store_16(slab + at, make_uint4(0, 0, 0, 0));
  };
  blank_slab(s.left(stage) + consumer * kSlabBytes);
  for (int slab = 0; slab < kColumns / kSlab; slab++) blank_slab(s.right(stage) + slab * kSlabBytes);
  sm90::async_proxy_fence();
  sm90::named_barrier(1 + consumer, 128);
}

/* One tile: after it d holds this consumer's rows of it, in fp32. After step `signal` the other consumer may begin. */
template <class P>
__device__ inline void accumulate(float (&d)[kColumns / 2], const Arguments& a, const Shared<P>& s, Ring<kStages>& ring, int consumer, const Tile& t,
                                  int signal) {
  const int steps = steps_of<P>(a.at, t), ragged = P::kDw ? (t.end - t.begin) % kDepth : 0;
  int last = -1; /* the stage that the products in flight before this one read */
  for (int step = 0; step < steps; step++) {
    sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::consumer, ring.stage);
    if (P::kGathered) sm90::async_proxy_fence(); /* between the producers' copies and the products that read them */
    if (P::kDw && ragged != 0 && step == steps - 1) blank<P>(s, ring.stage, consumer, ragged);
    sm90::wgmma_fence();
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; k16++) multiply<P>(d, s, ring.stage, consumer, k16, k16 > 0 || step > 0);
    sm90::wgmma_commit();
    sm90::wgmma_wait<1>();
    if (last >= 0) release<P>(s, last);
    if (step == signal) sm90::named_arrive(kStaggerBarrier, 128 * kConsumers);
    last = ring.stage;
    ring.advance();
  }
  sm90::wgmma_wait<0>();
  release<P>(s, last);
  sm90::hold(d);
}

/* A tile of which this consumer has no rows: it only keeps step. */
template <class P>
__device__ inline void pass(const Arguments& a, const Shared<P>& s, Ring<kStages>& ring, const Tile& t) {
  for (int step = 0; step < steps_of<P>(a.at, t); step++) {
    sm90::barrier_wait(s.full(ring.stage), ring.parity, sm90::Role::consumer, ring.stage);
    release<P>(s, ring.stage);
    ring.advance();
  }
}

/* The pair of neighbours that a register holds, as numbers. */
template <class T>
__device__ inline float2 unpack(uint32_t both) {
  Pack<T, 2> pack;
  *reinterpret_cast<uint32_t*>(&pack) = both;
  return make_float2(to_float(pack.element[0]), to_float(pack.element[1]));
}

/* A warp's 16 rows of y or dx, 64 columns at a time through 2 KB of its own. `f` gets the place there and the place of the same 16
   bytes in y, if y has them: the rows after `rows` are another expert's. */
template <class T, class F>
__device__ inline void for_chunks(uint32_t staging, T* y, int64_t ld, int rows, int64_t columns, F&& f) {
  const int lane = threadIdx.x % 32, chunk = lane % 8;
  __syncwarp();
#pragma unroll
  for (int r = lane / 8; r < 16; r += 4) {
    if (r < rows && chunk * 8 < columns) f(staging + r * kRowBytes + ((chunk ^ (r & 7)) << 4), reinterpret_cast<uint4*>(y + r * ld + chunk * 8));
  }
  __syncwarp();
}

/* Rounds d, with what it is added to, and stores it. */
template <class P>
__device__ inline void store(const float (&d)[kColumns / 2], const grouped::Arguments& at, const Shared<P>& s, int consumer, const Tile& t) {
  using T = typename P::T;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, row = t.row + consumer * 64 + warp * 16, rows = t.end - row;
  const uint32_t staging = s.staging(consumer) + warp * (16 * kRowBytes);
  T* y = static_cast<T*>(at.out) + row * at.ld_out + t.column;
#pragma unroll
  for (int slab = 0; slab < kColumns / kSlab; slab++) {
    const int64_t columns = at.columns - t.column - slab * kSlab;
    if (rows <= 0 || columns <= 0) return;
    if (at.accumulate) for_chunks(staging, y + slab * kSlab, at.ld_out, rows, columns, [](uint32_t to, const uint4* from) { store_16(to, *from); });
#pragma unroll
    for (int c = 0; c < kSlab / 8; c += 2) {
      const float* v = &d[(slab * (kSlab / 8) + c) * 4];
      const uint32_t place = staging + lane % 16 * kRowBytes + (((c + lane / 16) ^ (lane & 7)) << 4);
      uint32_t old[4] = {}; /* whatever is in the rows that are not stored */
      if (at.accumulate) load_matrices(old, place);
      uint32_t sum[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float2 before = at.accumulate ? unpack<T>(old[i]) : make_float2(0, 0);
        sum[i] = pack_pair<T>(before.x + at.scale * v[2 * i], before.y + at.scale * v[2 * i + 1]);
      }
      sm90::store_matrices(place, sum[0], sum[1], sum[2], sum[3]);
    }
    for_chunks(staging, y + slab * kSlab, at.ld_out, rows, columns, [](uint32_t from, uint4* to) { *to = load_16(from); });
  }
}

/* Adds d to dW, 32 columns at a time: TMA leaves out what lies beyond its edges. Nobody else adds to these elements. */
template <class P>
__device__ inline void add_to_dw(const float (&d)[kColumns / 2], const Arguments& a, const Shared<P>& s, int consumer, const Tile& t) {
  constexpr int kWidth = 32;
  const int thread = threadIdx.x % 128, lane = thread % 32, row = thread / 32 * 16 + lane / 4;
#pragma unroll
  for (int slab = 0; slab < kColumns / kWidth; slab++) {
    const uint32_t buffer = s.staging(consumer) + slab % 2 * 8192;
    if (thread == 0) sm90::store_wait_read<1>();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is free */
#pragma unroll
    for (int c = 0; c < kWidth / 8; c++) {
      const float* v = &d[(slab * (kWidth / 8) + c) * 4];
      const int chunk = c * 2 + lane % 4 / 2;
      const uint32_t place = buffer + row * kRowBytes + ((chunk ^ (row & 7)) << 4) + lane % 2 * 8;
      sm90::store_pair(place, a.at.scale * v[0], a.at.scale * v[1]);
      sm90::store_pair(place + 8 * kRowBytes, a.at.scale * v[2], a.at.scale * v[3]);
    }
    sm90::async_proxy_fence();
    sm90::named_barrier(1 + consumer, 128); /* the buffer is full */
    if (thread == 0) {
      sm90::add_tile(&a.out, t.column + slab * kWidth, t.row + consumer * 64, t.expert, buffer);
      sm90::store_commit();
    }
  }
}

template <class P>
__device__ inline void consume(const Arguments& a, const Shared<P>& s, int consumer) {
  float d[kColumns / 2];
  Walk<P> walk(a.at, s);
  Ring<kStages> ring;
  bool begun = false;
  for (Tile t; walk.next(&t); begun = true) {
    if (!begun && consumer == 1) sm90::named_barrier(kStaggerBarrier, 128 * kConsumers);
    if (!P::kDw && t.row + consumer * 64 >= t.end) { /* never the first consumer */
      pass<P>(a, s, ring, t);
      continue;
    }
    accumulate<P>(d, a, s, ring, consumer, t, !begun && consumer == 0 ? min(1, steps_of<P>(a.at, t) - 1) : -1);
    if constexpr (P::kDw) {
      add_to_dw<P>(d, a, s, consumer, t);
    } else {
      store<P>(d, a.at, s, consumer, t);
    }
  }
  if (P::kDw && threadIdx.x % 128 == 0) sm90::store_wait(); /* shared memory must live until TMA has read it */
}

/* ---------------------------------------------------------------------------------------------------------- kernel */

template <class P>
__device__ inline void run(const Arguments& a, uint8_t* memory) {
  const Shared<P> s(memory);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; stage++) {
      sm90::barrier_init(s.full(stage), P::kFullCount);
      sm90::barrier_init(s.empty(stage), kConsumers * 4);
    }
    sm90::barrier_init_fence();
    if (!P::kGathersLeft) sm90::prefetch_map(&a.left);
    if (!P::kGathersRight) sm90::prefetch_map(&a.right);
    if (P::kDw) sm90::prefetch_map(&a.out);
  }
  if (!P::kDw && threadIdx.x / 32 == 1) count_tiles<P>(s, a.at.offsets, a.at.experts);
  __syncthreads();
  const int consumer = static_cast<int>(threadIdx.x) / 128 - 1;
  if (consumer < 0) {
    sm90::shrink_registers<P::kProducerRegisters>();
    if (P::kGathered || threadIdx.x == 0) produce<P>(a, s);
  } else {
    sm90::grow_registers<P::kConsumerRegisters>();
    consume<P>(a, s, consumer);
  }
}

}  // namespace oribi::grouped90
#endif
