/* How rms_norm's backward pass cuts its rows for dw: the same on every device, so that one workspace size serves all. */
#ifndef ORIBI_COMMON_RMS_NORM_H
#define ORIBI_COMMON_RMS_NORM_H

#include <cstdint>

namespace oribi {

/* dw is summed in at most this many partial sums: enough for the threads of a large machine, and at C = 4096 they take
   1 MiB, little beside the activations. */
constexpr int64_t kMaxPartials = 64;
constexpr int64_t kMinRowsPerPartial = 16;

inline int64_t rows_per_partial(int64_t n) {
  const int64_t rows = (n + kMaxPartials - 1) / kMaxPartials;
  return rows < kMinRowsPerPartial ? kMinRowsPerPartial : rows;
}

inline int64_t partials_of(int64_t n) { return (n + rows_per_partial(n) - 1) / rows_per_partial(n); }

inline int64_t rms_norm_backward_workspace(int64_t n, int64_t c) {
  return n <= 0 || c <= 0 ? 0 : partials_of(n) * c * static_cast<int64_t>(sizeof(float));
}

}  // namespace oribi
#endif
