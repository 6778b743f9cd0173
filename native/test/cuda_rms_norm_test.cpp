/* The CUDA kernels against the same double reference as their CPU twins. Exit code 77: no device, nothing was tested. */
#include <cuda_runtime.h>

#include "oribi.h"
#define ORIBI_TEST_DEVICE ORIBI_CUDA
#include "check.h"
#include "rms_norm_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

struct Shape {
  int64_t n, c;
};
constexpr Shape kShapes[] = {{1, 1}, {13, 1}, {1, 13}, {13, 113}, {113, 1023}, {1023, 113}, {7, 2048}, {2048, 576}, {64, 4096}};
constexpr float kEps = 1e-5f;

double identity(double x) { return x; }

/* An array on the device, and its values in storage type t. */
class DeviceArray {
 public:
  DeviceArray(const Values& values, oribi_dtype t) : host_(values, t), bytes_(values.size() * check::size_of(t)) {
    CHECK(cudaMalloc(&data_, bytes_ + 16) == cudaSuccess);
    CHECK(cudaMemcpy(data_, host_.data(), bytes_, cudaMemcpyHostToDevice) == cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  void* data() { return data_; }
  float* f32() { return static_cast<float*>(data_); }
  Values values() {
    CHECK(cudaMemcpy(host_.data(), data_, bytes_, cudaMemcpyDeviceToHost) == cudaSuccess);
    return host_.values();
  }

 private:
  Array host_;
  size_t bytes_;
  void* data_ = nullptr;
};

void check_case(Shape s, oribi_dtype t, bool accumulate) {
  where = "n=" + std::to_string(s.n) + " c=" + std::to_string(s.c) + " " + name_of(t) + (accumulate ? " accumulate" : "");
  Random random(static_cast<uint64_t>(s.n * 10007 + s.c));
  const Values x_values = rounded(random.normals(s.n * s.c, 0.3, 1.7), t), delta_values = rounded(random.normals(s.n * s.c, -0.1, 0.6), t);
  const Values w_values = rounded(random.normals(s.c, 0.8, 0.5), t), dy_values = rounded(random.normals(s.n * s.c, 0.05, 0.9), t);
  const Values dx_values = rounded(random.normals(s.n * s.c, 0, 2), t), dw_values = rounded(random.normals(s.c, 0, 3), ORIBI_F32);
  const auto round = [t](double v) { return round_to(v, t); };
  Context ctx(0, ORIBI_CUDA);
  DeviceArray x(x_values, t), delta(delta_values, t), w(w_values, t), dy(dy_values, t), dx(dx_values, t), dw(dw_values, ORIBI_F32);
  DeviceArray r(Values(s.n * s.c, 7), t), y(Values(s.n * s.c, 7), t), rstd(Values(s.n, 7), ORIBI_F32);
  DeviceArray workspace(Values(oribi_rms_norm_backward_workspace(s.n, s.c) / 4, NAN), ORIBI_F32);

  Values exact_y, exact_rstd, plain_y, plain_rstd, sum(x_values);
  for (size_t i = 0; i < sum.size(); i++) sum[i] = round_to(x_values[i] + delta_values[i], t);
  CHECK_OK(ctx, oribi_add_rms_norm_forward(ctx, r.data(), y.data(), rstd.f32(), x.data(), delta.data(), w.data(), s.n, s.c, kEps, t));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  reference::rms_norm_forward<double>(exact_y, exact_rstd, sum, w_values, s.n, s.c, kEps, identity);
  reference::rms_norm_forward<float>(plain_y, plain_rstd, sum, w_values, s.n, s.c, kEps, round);
  compare_within("r", r.values(), sum, 0);
  compare("add y", y.values(), exact_y, rounded(plain_y, t), t);

  CHECK_OK(ctx, oribi_rms_norm_forward(ctx, y.data(), rstd.f32(), x.data(), w.data(), s.n, s.c, kEps, t));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  reference::rms_norm_forward<double>(exact_y, exact_rstd, x_values, w_values, s.n, s.c, kEps, identity);
  reference::rms_norm_forward<float>(plain_y, plain_rstd, x_values, w_values, s.n, s.c, kEps, round);
  compare("y", y.values(), exact_y, rounded(plain_y, t), t);
  const Values rstd_values = rstd.values();
  compare("rstd", rstd_values, exact_rstd, plain_rstd, ORIBI_F32);

  CHECK_OK(ctx, oribi_rms_norm_backward(ctx, dx.data(), dw.f32(), rstd.f32(), dy.data(), x.data(), w.data(), workspace.data(), s.n, s.c, accumulate, t));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  Values exact_dx, plain_dx, exact_dw(dw_values), plain_dw(dw_values);
  reference::rms_norm_backward<double>(exact_dx, exact_dw, rstd_values, dy_values, x_values, w_values, s.n, s.c);
  reference::rms_norm_backward<float>(plain_dx, plain_dw, rstd_values, dy_values, x_values, w_values, s.n, s.c);
  double dx_term = 0, dw_term = largest(dw_values);
  for (int64_t i = 0; i < s.n * s.c; i++) {
    if (accumulate) exact_dx[i] += dx_values[i], plain_dx[i] = static_cast<float>(plain_dx[i]) + static_cast<float>(dx_values[i]);
    dx_term = std::fmax(dx_term, std::fabs(rstd_values[i / s.c] * dy_values[i] * w_values[i % s.c]));
    dw_term = std::fmax(dw_term, std::fabs(rstd_values[i / s.c] * dy_values[i] * x_values[i]));
  }
  compare("dx", dx.values(), exact_dx, rounded(plain_dx, t), t, dx_term);
  compare("dw", dw.values(), exact_dw, plain_dw, ORIBI_F32, dw_term);
}

}  // namespace

TEST(forward_and_backward) {
  for (oribi_dtype t : kDtypes) {
    for (Shape s : kShapes) {
      check_case(s, t, false);
      check_case(s, t, true);
    }
  }
}

TEST(same_bits_twice) {
  const int64_t n = 1023, c = 576;
  Random random(3);
  const Values values = random.normals(n * c);
  Context ctx(0, ORIBI_CUDA);
  DeviceArray x(values, ORIBI_BF16), w(random.normals(c), ORIBI_BF16), dx(values, ORIBI_BF16), rstd(Values(n, 0.7), ORIBI_F32);
  DeviceArray first(Values(c, 0), ORIBI_F32), second(Values(c, 0), ORIBI_F32), workspace(Values(oribi_rms_norm_backward_workspace(n, c) / 4, 0), ORIBI_F32);
  for (DeviceArray* dw : {&first, &second}) {
    CHECK_OK(ctx, oribi_rms_norm_backward(ctx, dx.data(), dw->f32(), rstd.f32(), x.data(), x.data(), w.data(), workspace.data(), n, c, 0, ORIBI_BF16));
  }
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
  compare_within("dw", first.values(), second.values(), 0);
}

TEST(what_is_missing_is_named) {
  Context ctx(0, ORIBI_CUDA);
  oribi_rope_shape shape{};
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_rope: not available on", oribi_rope(ctx, nullptr, nullptr, nullptr, nullptr, nullptr, &shape));
}
