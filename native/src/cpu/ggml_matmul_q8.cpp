/*
 * Math        y = Q(x)·Wᵀ with W in ggml's blocks (common/ggml.h).  Q(x) = s round(x 127 / max|x|), s = max|x| / 127, the maximum over
 *             each 32 elements, over each 256 for the types of 256
 * Shapes      x (N,in)  W (out,in)  y (N,out)
 * Layout      rows of x and y with strides; a row of W is whole blocks
 * Precision   x is rounded to 8 bits, halves to even, as llama.cpp does; s stays in fp32. Products within a block are whole numbers and
 *             exact; blocks are scaled and summed in fp32
 * Saved       nothing
 * Writes      y =
 * Determinism bit-exact for any number of threads; instruction sets differ in the order of the sums over blocks
 * Limits      in up to 2^17. 32 or 256 elements with a NaN or an infinity among them make y NaN; below 2^-100 they count as zeros
 */
#include <cmath>

#include "cpu/ggml_dot8.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"

namespace oribi {
namespace {

/* Bytes of W that make a piece of work: about 2 us of it, where taking the next piece costs some 0.1 us. */
constexpr int64_t kPiece = 1 << 16;

/* Longest row: what is kept of it, or of several shorter ones, lies on the stack, 170 kB. The widest layers that are published have
   53248. */
constexpr int64_t kMostIn = 1 << 17;

/* Smaller numbers would make 127 / max infinite. */
constexpr float kSmallest = 0x1p-100f;

typedef int8_t vcodes __attribute__((vector_size(kLanes)));

/* codes[count] =, returns the scale. */
float round_group(int8_t* codes, const float* x, int count) {
  vint most{}; /* sizes as the integers of their bits: they have the same order, and NaN and infinity come last */
  for (int i = 0; i < count; i += static_cast<int>(kLanes)) {
    const vint size = as_int(vabs(vload(x + i)));
    most = size > most ? size : most;
  }
  int32_t bits = 0;
  for (int64_t l = 0; l < kLanes; l++) bits = std::max(bits, most[l]);
  const float max = as_float(bits);
  if (!(max >= kSmallest) || bits >= 0x7f800000) {
    std::memset(codes, 0, static_cast<size_t>(count));
    return bits >= 0x7f800000 ? NAN : 0.0f;
  }
  const float inverse = 127.0f / max;
  for (int i = 0; i < count; i += static_cast<int>(kLanes)) {
    const vint rounded = as_int(vload(x + i) * inverse + 12582912.0f) - 0x4b400000; /* 1.5 * 2^23, as in vexp */
    const vcodes narrow = __builtin_convertvector(rounded, vcodes);
    std::memcpy(codes + i, &narrow, sizeof narrow);
  }
  return max / 127.0f;
}

void round_row(int8_t* codes, float* scale, int16_t* sums, const float* x, int64_t in, int elements, int summed) {
  for (int64_t i = 0; i < in; i += elements) scale[i / elements] = round_group(codes + i, x + i, elements);
  for (int64_t i = 0; i < in; i += summed) {
    int32_t sum = 0;
    for (int k = 0; k < summed; k++) sum += codes[i + k];
    sums[i / summed] = static_cast<int16_t>(sum);
  }
}

struct Shape {
  int64_t in, out, ld_x, ld_y;
  oribi_ggml_type type;
};

/* As many rows of x as the stack holds: each row of W is read once for all of them. */
void multiply_rows(oribi_ctx* ctx, float* y, const float* x, const uint8_t* w, int64_t rows, const Shape& s) {
  const GgmlLayout layout = ggml_layout(s.type);
  const int64_t bytes = s.in / layout.elements * layout.bytes, groups = s.in / layout.elements;
  const int summed = s.type == ORIBI_GGML_Q6_K ? 16 : 32;
  const Dot8 dot = dot8_of(s.type);
  alignas(64) int8_t codes[kMostIn];
  float scale[kMostIn / 32];
  int16_t sums[kMostIn / 16];
  for (int64_t i = 0; i < rows; i++) {
    round_row(codes + i * s.in, scale + i * groups, sums + i * (s.in / summed), x + i * s.ld_x, s.in, layout.elements, summed);
  }
  const Rounded first = {codes, scale, sums};
  parallel_ranges(ctx, s.out, std::max<int64_t>(1, kPiece / bytes), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      for (int64_t i = 0; i < rows; i++) {
        const Rounded row = {first.codes + i * s.in, first.scale + i * groups, first.sums + i * (s.in / summed)};
        y[i * s.ld_y + r] = dot(w + r * bytes, row, s.in);
      }
    }
  });
}

}  // namespace
}  // namespace oribi

using namespace oribi;

extern "C" oribi_status oribi_ggml_matmul_q8(oribi_ctx* ctx, float* y, const float* x, const void* w, int64_t n, int64_t in,
                                             int64_t out, int64_t ld_x, int64_t ld_y, oribi_ggml_type type) {
  if (type == ORIBI_GGML_F32 || type == ORIBI_GGML_F16 || type == ORIBI_GGML_BF16) {
    return oribi_ggml_matmul(ctx, y, x, w, n, in, out, ld_x, ld_y, type);
  }
  Check check(ctx, "oribi_ggml_matmul_q8");
  if (!check_ggml_matmul(check, y, x, w, n, in, out, ld_x, ld_y, type, kMostIn).ok()) return check.status();
  const int64_t most = kMostIn / in;
  for (int64_t row = 0; row < n; row += most) {
    multiply_rows(ctx, y + row * ld_y, x + row * ld_x, static_cast<const uint8_t*>(w), std::min(most, n - row), {in, out, ld_x, ld_y, type});
  }
  return ORIBI_OK;
}
