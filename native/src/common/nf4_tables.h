/*
 * The tables of NF4 (Dettmers et al. 2023) as bitsandbytes has them: the 16 quantiles of a weight, and the signed dynamic
 * map of the codes of its double quantization. They are made when the code is compiled, for the CPU and a GPU alike.
 */
#ifndef ORIBI_COMMON_NF4_TABLES_H
#define ORIBI_COMMON_NF4_TABLES_H

namespace oribi {

struct Nf4Tables {
  float quantile[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                        -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
                        0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                        0.7229568362236023f, 1.0f};
  float map[256] = {};

  /* Ascending: for each power of ten 10^(i-6) the 2^i middles of equal parts of [0.1, 1], with both signs; 0; and 1. Each
     step is one operation in fp32, as PyTorch takes it, so that the values are those of bitsandbytes. */
  constexpr Nf4Tables() {
    constexpr float kPowers[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
    int above = 128; /* map[127] is 0 */
    for (int i = 0; i < 7; i++) {
      const int parts = 1 << i;
      for (int j = 0; j < parts; j++, above++) {
        const float middle = (boundary(j, parts) + boundary(j + 1, parts)) / 2.0f;
        map[above] = kPowers[i] * middle;
        map[254 - above] = -map[above];
      }
    }
    map[255] = 1.0f;
  }

 private:
  /* torch.linspace(0.1, 1, parts + 1)[j], which counts from the nearer end. */
  static constexpr float boundary(int j, int parts) {
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    return j < (parts + 1) / 2 ? 0.1f + step * static_cast<float>(j) : 1.0f - step * static_cast<float>(parts - j);
  }
};

}  // namespace oribi
#endif
