/* Random matrices in ggml's blocks, for tests. */
#ifndef ORIBI_TEST_GGML_BLOCKS_H
#define ORIBI_TEST_GGML_BLOCKS_H

#include <cstring>

#include "check.h"
#include "ggml_ref.h"

namespace check {

using Values = std::vector<double>;

constexpr oribi_ggml_type kTypes[] = {ORIBI_GGML_Q4_0, ORIBI_GGML_Q4_1, ORIBI_GGML_Q5_0, ORIBI_GGML_Q5_1,
                                      ORIBI_GGML_Q8_0, ORIBI_GGML_Q4_K, ORIBI_GGML_Q5_K, ORIBI_GGML_Q6_K};

/* A matrix of random codes and random scales of the sizes that weights have. */
struct Blocks {
  oribi_ggml_type type;
  int64_t rows, cols;
  std::vector<uint8_t> bytes;

  Blocks(oribi_ggml_type t, int64_t r, int64_t c, uint64_t stream) : type(t), rows(r), cols(c) {
    Random random(stream);
    const reference::GgmlSizes sizes = reference::ggml_sizes(t);
    bytes.resize(static_cast<size_t>(r * c / sizes.elements * sizes.bytes));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random.bits());
    for (size_t block = 0; block < bytes.size(); block += static_cast<size_t>(sizes.bytes)) {
      half(block + (t == ORIBI_GGML_Q6_K ? 208 : 0), random);
      if (has_min()) half(block + 2, random);
    }
  }

  /* All scales become d, so that with a power of two the values are exact. */
  void scale_by(double d) {
    const size_t size = static_cast<size_t>(reference::ggml_sizes(type).bytes);
    for (size_t block = 0; block < bytes.size(); block += size) {
      put(block + (type == ORIBI_GGML_Q6_K ? 208 : 0), encode(d, ORIBI_F16));
      if (has_min()) put(block + 2, encode(d, ORIBI_F16));
    }
  }

  Values values() const {
    const reference::GgmlSizes sizes = reference::ggml_sizes(type);
    Values all(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < all.size(); i++) {
      const size_t block = i / static_cast<size_t>(sizes.elements) * static_cast<size_t>(sizes.bytes);
      all[i] = reference::ggml_value(type, bytes.data() + block, static_cast<int>(i % static_cast<size_t>(sizes.elements)));
    }
    return all;
  }

 private:
  /* Of both signs, and now and then zero or subnormal. */
  void half(size_t at, Random& random) {
    const uint16_t bits = random.below(16) == 0 ? static_cast<uint16_t>(random.below(900)) : encode(random.uniform(-0.01, 0.01), ORIBI_F16);
    put(at, bits);
  }
  void put(size_t at, uint16_t bits) { std::memcpy(bytes.data() + at, &bits, sizeof bits); }
  bool has_min() const {
    return type == ORIBI_GGML_Q4_1 || type == ORIBI_GGML_Q5_1 || type == ORIBI_GGML_Q4_K || type == ORIBI_GGML_Q5_K;
  }
};

}  // namespace check
#endif
