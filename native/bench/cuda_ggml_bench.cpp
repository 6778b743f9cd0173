/*
 * ggml's types expanded to bf16 on a card, at the size of gate_proj of Llama 3.1 8B. Bytes are those that must move: the packed blocks
 * and what becomes of them. The beginning of each result is compared with the reference first.
 */
#include <string>

#include "cuda_bench.h"
#include "ggml_ref.h"

namespace {

using namespace cuda_bench;

constexpr int64_t kRows = 14336, kCols = 4096, kTokens = 8192, kChecked = 1 << 16;

const struct {
  const char* name;
  oribi_ggml_type type;
} kTypes[] = {{"q4_0", ORIBI_GGML_Q4_0}, {"q4_1", ORIBI_GGML_Q4_1}, {"q5_0", ORIBI_GGML_Q5_0}, {"q5_1", ORIBI_GGML_Q5_1},
              {"q8_0", ORIBI_GGML_Q8_0}, {"q4_k", ORIBI_GGML_Q4_K}, {"q5_k", ORIBI_GGML_Q5_K}, {"q6_k", ORIBI_GGML_Q6_K}};

/* Blocks of random codes, some 8 MB of them over and over, with scales of about 0.01: a scale's high byte is 0x21 or 0xa1. */
std::vector<uint8_t> blocks_of(oribi_ggml_type type) {
  const reference::GgmlSizes sizes = reference::ggml_sizes(type);
  const size_t size = static_cast<size_t>(sizes.bytes), all = static_cast<size_t>(kRows * kCols / sizes.elements) * size;
  const size_t made = std::min(all, (size_t{8} << 20) / size * size);
  std::vector<uint8_t> blocks(all);
  std::mt19937_64 engine(5);
  for (size_t i = 0; i < made; i++) blocks[i] = static_cast<uint8_t>(engine());
  for (size_t block = 0; block < made; block += size) {
    for (const size_t at : {size_t{1}, size_t{3}, size_t{209}}) {
      if (at < size) blocks[block + at] = static_cast<uint8_t>((blocks[block + at] & 0x80) | 0x21);
    }
  }
  for (size_t i = made; i < all; i++) blocks[i] = blocks[i - made];
  return blocks;
}

/* Whether the first elements of w are the reference's, rounded to bf16. */
bool holds(const Memory& w, const std::vector<uint8_t>& blocks, oribi_ggml_type type) {
  const reference::GgmlSizes sizes = reference::ggml_sizes(type);
  const std::vector<double> found = download(w, 0, kChecked, ORIBI_BF16);
  for (int64_t i = 0; i < kChecked; i++) {
    const float exact = reference::ggml_value(type, blocks.data() + i / sizes.elements * sizes.bytes, static_cast<int>(i % sizes.elements));
    if (found[static_cast<size_t>(i)] != oribi::to_float(oribi::from_float<oribi::bf16>(exact))) return false;
  }
  return true;
}

void time_type(Bench& bench, const char* name, oribi_ggml_type type) {
  const std::string dequantize = std::string("ggml_dequantize ") + name, embedding = std::string("ggml_embedding ") + name;
  if (!bench.wanted(dequantize) && !bench.wanted(embedding)) return;
  const std::vector<uint8_t> blocks = blocks_of(type);
  const Memory packed = upload(blocks), w(static_cast<size_t>(kRows * kCols) * 2);
  const double share = static_cast<double>(blocks.size()) / static_cast<double>(kRows * kCols);
  bench.time(dequantize, std::to_string(kRows) + "x" + std::to_string(kCols), ORIBI_BF16, bytes((2 + share) * static_cast<double>(kRows * kCols)),
             [&] { return oribi_ggml_dequantize(bench.ctx(), w, packed, kRows, kCols, kCols, type, ORIBI_BF16); },
             [&] { return holds(w, blocks, type); });
  std::vector<int32_t> ids(kTokens); /* any rows, after those that are compared */
  for (int64_t i = 0; i < kTokens; i++) ids[static_cast<size_t>(i)] = static_cast<int32_t>(i < kChecked / kCols ? i : i * 997 % kRows);
  const Memory ids_there = upload(ids);
  bench.time(embedding, std::to_string(kTokens) + "x" + std::to_string(kCols), ORIBI_BF16, bytes((2 + share) * static_cast<double>(kTokens * kCols)),
             [&] { return oribi_ggml_embedding(bench.ctx(), w, packed, ids_there.as<int32_t>(), kTokens, kCols, kRows, type, ORIBI_BF16); },
             [&] { return holds(w, blocks, type); });
}

}  // namespace

int main(int count, char** arguments) {
  Bench bench(arguments, count);
  for (const auto& t : kTypes) time_type(bench, t.name, t.type);
}
