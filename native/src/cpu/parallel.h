/*
 * Work for several threads. Results may not depend on the number of threads: work is cut into chunks whose size depends
 * on the problem alone, each chunk is done by one thread, and sums over chunks are taken in the order of the chunks.
 * Which thread takes which chunk is not fixed, so that a busy core does not hold up the rest.
 */
#ifndef ORIBI_CPU_PARALLEL_H
#define ORIBI_CPU_PARALLEL_H

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "common/context.h"
#include "cpu/crew.h"

namespace oribi {

/* The index of the running thread within a parallel_for, below ctx->threads: for the choice of a scratch buffer only. A thread of one
   kind has number 0 in the other. */
inline int32_t thread_index() { return omp_get_thread_num() + Crew::index(); }

inline int64_t chunks_of(int64_t count, int64_t chunk) { return (count + chunk - 1) / chunk; }

/* body(i) for each i in [0, count), in any order. The body throws nothing. */
template <class Body>
void parallel_for(const oribi_ctx* ctx, int64_t count, Body&& body) {
  if (count <= 1 || ctx->threads <= 1) {
    for (int64_t i = 0; i < count; i++) body(i);
    return;
  }
  if (ctx->awake) {
    using Work = std::remove_reference_t<Body>;
    ctx->crew->run(count, [](void* work, int64_t i) { (*static_cast<Work*>(work))(i); }, const_cast<std::remove_const_t<Work>*>(&body));
    return;
  }
  const int threads = static_cast<int>(std::min<int64_t>(ctx->threads, count));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < count; i++) body(i);
}

/* body(begin, end) for pieces of [0, count) of `chunk` elements, the last one shorter. */
template <class Body>
void parallel_ranges(const oribi_ctx* ctx, int64_t count, int64_t chunk, Body&& body) {
  parallel_for(ctx, chunks_of(count, chunk),
               [&](int64_t i) { body(i * chunk, std::min(count, (i + 1) * chunk)); });
}

/* Elements in one piece of elementwise work: some 20 us of it, against about 1 us to start the threads. */
constexpr int64_t kChunkElements = 32768;

/* Rows of c elements that make a piece of about kChunkElements. */
inline int64_t rows_per_chunk(int64_t c) { return std::max<int64_t>(1, kChunkElements / std::max<int64_t>(1, c)); }

}  // namespace oribi
#endif
