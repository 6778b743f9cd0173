/* Normalises two rows with one of Oribi's kernels: no Java, no other library. */
#include <oribi.h>

#include <cmath>
#include <cstdio>

int main() {
  oribi_ctx* ctx = nullptr;
  if (oribi_ctx_create(&ctx, ORIBI_CPU, 0, 0) != ORIBI_OK) {
    std::fprintf(stderr, "%s\n", oribi_create_message());
    return 1;
  }
  alignas(64) const float x[2][4] = {{1, 2, 3, 4}, {-2, 0, 2, 0}};
  alignas(64) const float w[4] = {1, 1, 0.5f, 2};
  alignas(64) float y[2][4], rstd[2];
  const oribi_status status = oribi_rms_norm_forward(ctx, y, rstd, x, w, 2, 4, 1e-5f, ORIBI_NORM_WEIGHT, ORIBI_F32);
  if (status != ORIBI_OK) {
    std::fprintf(stderr, "%s\n", oribi_ctx_message(ctx));
    oribi_ctx_destroy(ctx);
    return 1;
  }
  std::printf("oribi %s on %s, %d threads\n", oribi_version(), oribi_ctx_device_name(ctx), oribi_ctx_threads(ctx));
  for (const auto& row : y) std::printf("%8.4f %8.4f %8.4f %8.4f\n", row[0], row[1], row[2], row[3]);
  oribi_ctx_destroy(ctx);
  /* The first row has mean square 7.5, the second 2. */
  const bool right = std::fabs(y[0][3] - 8 / std::sqrt(7.50001f)) < 1e-5f && std::fabs(y[1][2] - 1 / std::sqrt(2.00001f)) < 1e-5f;
  return right ? 0 : 1;
}
