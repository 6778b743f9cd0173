/*
 * One row of x times a weight in ggml's blocks, as decoding does it: x in fp32 and x in 8 bits, beside reading as many bytes. The
 * weights are 64 layers of 768 x 2048, more than the caches hold, and are read one after the other; bytes are theirs.
 */
#include <cmath>
#include <cstring>

#include "bench.h"

namespace {

constexpr int64_t kIn = 768, kOut = 2048, kLayers = 64;

struct Type {
  const char* name;
  oribi_ggml_type type;
  int64_t elements, bytes, scale; /* of a block; where its scale lies */
};
constexpr Type kTypes[] = {{"Q8_0", ORIBI_GGML_Q8_0, 32, 34, 0},   {"Q4_0", ORIBI_GGML_Q4_0, 32, 18, 0},   {"Q5_0", ORIBI_GGML_Q5_0, 32, 22, 0},
                           {"Q4_K", ORIBI_GGML_Q4_K, 256, 144, 0}, {"Q5_K", ORIBI_GGML_Q5_K, 256, 176, 0}, {"Q6_K", ORIBI_GGML_Q6_K, 256, 210, 208},
                           {"F16", ORIBI_GGML_F16, 1, 2, 0},       {"BF16", ORIBI_GGML_BF16, 1, 2, 0},     {"F32", ORIBI_GGML_F32, 1, 4, 0}};

/* Random bytes will do but for the scales and for plain numbers: the upper byte of those is that of 2^-7 in fp16, which is a small
   number in bf16 and fp32 too. */
std::vector<uint8_t> weights(const Type& t) {
  std::vector<uint8_t> all(static_cast<size_t>(kLayers * kOut * kIn / t.elements * t.bytes));
  std::mt19937_64 engine(3);
  for (uint8_t& byte : all) byte = static_cast<uint8_t>(engine());
  for (size_t i = 0; i < all.size(); i += static_cast<size_t>(t.bytes)) {
    const size_t upper = i + static_cast<size_t>(t.elements == 1 ? t.bytes - 1 : t.scale + 1);
    all[upper] = static_cast<uint8_t>(0x20 | (all[upper] & 0x80));
    if (t.type == ORIBI_GGML_Q4_K || t.type == ORIBI_GGML_Q5_K) all[i + 3] = 0x20;
  }
  return all;
}

/* How fast this many bytes can be read by one thread: sums of whole words. */
void time_reading(const std::vector<uint8_t>& w) {
  uint64_t sum = 0;
  const bench::Times times = bench::measure([&] {
    uint64_t parts[8] = {};
    for (size_t i = 0; i + 64 <= w.size(); i += 64) {
      uint64_t words[8];
      std::memcpy(words, w.data() + i, 64);
      for (int k = 0; k < 8; k++) parts[k] += words[k];
    }
    for (uint64_t part : parts) sum += part;
  }, 0.3);
  bench::verified(sum != 1, "reading");
  bench::report("read", "as much", 1, times, static_cast<double>(w.size()), "GB/s");
}

}  // namespace

int main(int count, char** arguments) {
  for (const Type& t : kTypes) {
    if (count > 1 && std::strcmp(arguments[1], t.name) != 0) continue;
    const std::vector<uint8_t> w = weights(t);
    const size_t layer = w.size() / kLayers;
    std::vector<float> x = bench::normals(kIn), y(kOut), z(kOut);
    for (int32_t threads : {1, 2}) {
      oribi_ctx* ctx = bench::context(threads);
      bench::must(ctx, oribi_ctx_keep_awake(ctx, 1));
      const auto all = [&](float* out, auto multiply) {
        for (int64_t i = 0; i < kLayers; i++) {
          bench::must(ctx, multiply(ctx, out, x.data(), w.data() + static_cast<size_t>(i) * layer, 1, kIn, kOut, kIn, kOut, t.type));
        }
      };
      all(y.data(), oribi_ggml_matmul);
      all(z.data(), oribi_ggml_matmul_q8);
      double norm = 0, difference = 0;
      for (size_t i = 0; i < y.size(); i++) {
        norm += y[i] * y[i];
        difference += (y[i] - z[i]) * (y[i] - z[i]);
      }
      bench::verified(difference <= 4e-4 * norm, t.name); /* two digits: what 8 bits keep of x */
      const double bytes = static_cast<double>(w.size());
      bench::report("ggml_matmul", t.name, threads, bench::measure([&] { all(y.data(), oribi_ggml_matmul); }, 0.3), bytes, "GB/s");
      bench::report("ggml_matmul_q8", t.name, threads, bench::measure([&] { all(z.data(), oribi_ggml_matmul_q8); }, 0.3), bytes, "GB/s");
      oribi_ctx_destroy(ctx);
    }
    time_reading(w);
  }
  return 0;
}
