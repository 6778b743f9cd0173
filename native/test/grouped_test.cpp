/* The grouped products of routed experts. */
#include <utility>

#include "check.h"
#include "grouped_ref.h"

using namespace check;
using Values = std::vector<double>;
using reference::Grouping;

namespace {

/* rows: of each expert, 0 among them. */
struct Sizes {
  std::vector<int32_t> rows;
  int64_t in, out, pad;
  bool gathered;
};
/* Odd sizes, one row, no rows at all, ranks of adapters on either side, tiles that end within an expert's rows, and experts of
   Qwen3-MoE with few tokens. A multiple of 8 on every side goes to the tensor cores, thin ones to tiles of their own. */
const Sizes kSizes[] = {{{1}, 1, 1, 0, false},
                        {{3, 0, 13, 1, 0}, 13, 7, 3, true},
                        {{0, 0, 0}, 16, 8, 0, false},
                        {{5, 0, 70, 129, 1}, 40, 48, 8, true},
                        {{130, 2, 0, 63}, 200, 136, 0, false},
                        {{9, 300, 0, 17}, 264, 16, 8, true},
                        {{33, 128, 0, 256}, 8, 144, 0, false},
                        {{2, 31, 0, 140}, 24, 520, 0, true}};

/* More tiles than a card computes at once, and more experts than a warp has lanes. */
Sizes many_experts() {
  Sizes all{{}, 72, 520, 0, false};
  for (int32_t e = 0; e < 40; e++) all.rows.push_back(e % 7 == 3 ? 0 : e % 5 + (e % 4 == 0 ? 128 : 0));
  return all;
}

std::vector<Sizes> all_sizes() {
  std::vector<Sizes> all(std::begin(kSizes), std::end(kSizes));
  if (quick()) return all;
  all.push_back({{0, 150, 7, 0, 64}, 512, 384, 0, true});
  all.push_back({{0, 3333, 0}, 72, 136, 0, false}); /* all rows with one expert, in more tiles than are walked together */
  all.push_back({{61, 0, 72}, 1096, 136, 8, false}); /* laps of a ring of stages */
  all.push_back({{64, 129, 65}, 136, 712, 0, true});
  all.push_back(many_experts());
  return all;
}

struct Case {
  oribi_grouped_shape s{};
  Grouping g;
  int64_t rows = 0, tokens = 0;
  Values x, y, w, dw0;

  Case(const char* name, const Sizes& sizes, oribi_dtype t, float scale, bool accumulate) {
    g.offsets = {0};
    for (int32_t r : sizes.rows) g.offsets.push_back(g.offsets.back() + r);
    rows = g.offsets.back();
    s.n = rows + 2; /* two that belong to no expert */
    tokens = rows / 2 + 3;
    s.experts = static_cast<int64_t>(sizes.rows.size());
    s.in = sizes.in, s.out = sizes.out;
    s.ld_x = s.in + sizes.pad, s.ld_y = s.out + sizes.pad;
    s.ld_w = s.in + sizes.pad, s.expert_w = s.out * s.ld_w + 8 * sizes.pad;
    s.scale = scale, s.accumulate = accumulate, s.t = t;
    where = std::string(name) + " in=" + std::to_string(s.in) + " out=" + std::to_string(s.out) + " rows=" + std::to_string(rows) + " " + name_of(t);
    Random random(static_cast<uint64_t>(s.in * 131 + s.out + rows));
    const int64_t most = std::max(s.n, tokens);
    x = rounded(random.normals(most * s.ld_x, 0.05), t);
    y = rounded(random.normals(most * s.ld_y, 0.05), t);
    w = rounded(random.normals(s.experts * s.expert_w, 0.02), t);
    dw0 = rounded(random.normals(s.experts * s.expert_w), ORIBI_F32);
    gathers_x = gathers_y = sizes.gathered;
  }

  bool gathers_x, gathers_y;
  std::vector<int32_t> some_rows(uint64_t stream) const {
    Random random(stream);
    std::vector<int32_t> all(s.n);
    for (int32_t& i : all) i = static_cast<int32_t>(random.below(tokens));
    return all;
  }
  double x_largest() const { return largest(x) * largest(w); }
};

/* Device copies of what a shape points to. */
struct Pointers {
  Plain<int32_t> offsets, x_row, y_row;
  Pointers(Case& c, bool x_rows, bool y_rows) : offsets(c.g.offsets), x_row(c.some_rows(1)), y_row(c.some_rows(2)) {
    c.g.x_row = x_rows ? x_row.values() : std::vector<int32_t>();
    c.g.y_row = y_rows ? y_row.values() : std::vector<int32_t>();
    c.s.offsets = offsets.data();
    c.s.x_row = x_rows ? x_row.data() : nullptr;
    c.s.y_row = y_rows ? y_row.data() : nullptr;
  }
};

/* Calls f for each of a device's kernels: a card of sm_90 has some of its own and those of every card. */
template <class F>
void in_all_ways(F&& f) {
  const std::string name = where;
  for (const char* way : {"", "mma"}) {
    if (ORIBI_TEST_DEVICE == ORIBI_CPU && way[0] != '\0') continue;
    setenv("ORIBI_GROUPED", way, 1);
    where = name + " " + way;
    f();
  }
  unsetenv("ORIBI_GROUPED");
}

void check_forward(const Sizes& sizes, oribi_dtype t, float scale, bool accumulate) {
  Case c("forward", sizes, t, scale, accumulate);
  const Pointers at(c, c.gathers_x, false);
  Context ctx;
  Array x(c.x, t), w(c.w, t);
  const Values exact = reference::grouped_matmul<double>(c.y, c.x, c.w, c.g, c.s);
  const Values plain = rounded(reference::grouped_matmul<float>(c.y, c.x, c.w, c.g, c.s), t);
  in_all_ways([&] {
    Array y(c.y, t);
    CHECK_OK(ctx, oribi_grouped_matmul(ctx, y.data(), x.data(), w.data(), &c.s));
    compare("y", y.values(), exact, plain, t, c.x_largest() * std::sqrt(c.s.in));
  });
}

void check_dx(const Sizes& sizes, oribi_dtype t, float scale, bool accumulate) {
  Case c("dx", sizes, t, scale, accumulate);
  const Pointers at(c, false, c.gathers_y);
  Context ctx;
  Array w(c.w, t), dy(c.y, t);
  const Values exact = reference::grouped_matmul_dx<double>(c.x, c.y, c.w, c.g, c.s);
  const Values plain = rounded(reference::grouped_matmul_dx<float>(c.x, c.y, c.w, c.g, c.s), t);
  in_all_ways([&] {
    Array dx(c.x, t);
    CHECK_OK(ctx, oribi_grouped_matmul_dx(ctx, dx.data(), dy.data(), w.data(), &c.s));
    compare("dx", dx.values(), exact, plain, t, largest(c.y) * largest(c.w) * std::sqrt(c.s.out));
  });
}

void check_dw(const Sizes& sizes, oribi_dtype t, float scale, bool gathers_x, bool gathers_y) {
  Case c("dw", sizes, t, scale, true);
  const Pointers at(c, gathers_x, gathers_y);
  Context ctx;
  Array x(c.x, t), dy(c.y, t);
  const Values exact = reference::grouped_matmul_dw<double>(c.dw0, c.y, c.x, c.g, c.s);
  const Values plain = reference::grouped_matmul_dw<float>(c.dw0, c.y, c.x, c.g, c.s);
  in_all_ways([&] {
    Array dw(c.dw0, ORIBI_F32);
    CHECK_OK(ctx, oribi_grouped_matmul_dw(ctx, dw.f32(), dy.data(), x.data(), &c.s));
    compare("dw", dw.values(), exact, plain, ORIBI_F32, largest(c.x) * largest(c.y) * std::sqrt(c.rows));
  });
}

}  // namespace

TEST(forward) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : all_sizes()) {
      check_forward(sizes, t, 1, false);
      check_forward(sizes, t, 0.75f, true);
    }
  }
}

TEST(dx) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : all_sizes()) {
      check_dx(sizes, t, 1, false);
      check_dx(sizes, t, 0.75f, true);
    }
  }
}

TEST(dw) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : all_sizes()) {
      check_dw(sizes, t, 1, false, false);
      check_dw(sizes, t, 0.75f, sizes.gathered, false);
      check_dw(sizes, t, 1, false, sizes.gathered);
    }
  }
}

/* Small whole numbers, whose sums every type and order of summation has exactly. */
TEST(whole_numbers_are_exact) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : all_sizes()) {
      if (sizes.in > 300 || sizes.out > 600) continue;
      Case c("exact", sizes, t, 1, false);
      Random random(7);
      for (Values* v : {&c.x, &c.w}) {
        for (double& e : *v) e = static_cast<double>(random.below(3)) - 1;
      }
      for (double& e : c.x) e = random.below(8) == 0 ? e : 0; /* sums of at most some tens */
      const Pointers at(c, c.gathers_x, false);
      Context ctx;
      Array x(c.x, t), w(c.w, t), y(c.y, t);
      CHECK_OK(ctx, oribi_grouped_matmul(ctx, y.data(), x.data(), w.data(), &c.s));
      compare_within("y", y.values(), reference::grouped_matmul<double>(c.y, c.x, c.w, c.g, c.s), 0);
    }
  }
}

TEST(reference_backward_by_finite_differences) {
  Case c("reference", {{2, 0, 3}, 4, 3, 1, false}, ORIBI_F32, 0.5f, false);
  const Pointers at(c, false, false);
  const auto loss = [&](const Values& x, const Values& w) {
    const Values y = reference::grouped_matmul<double>(Values(c.y.size(), 0.0), x, w, c.g, c.s);
    double sum = 0;
    for (int64_t i = 0; i < c.rows; i++) {
      for (int64_t o = 0; o < c.s.out; o++) sum += y[i * c.s.ld_y + o] * c.y[i * c.s.ld_y + o];
    }
    return sum;
  };
  const Values dx = reference::grouped_matmul_dx<double>(Values(c.x.size(), 0.0), c.y, c.w, c.g, c.s);
  const Values dw = reference::grouped_matmul_dw<double>(Values(c.w.size(), 0.0), c.y, c.x, c.g, c.s);
  compare_derivative("dx", c.x, dx, [&](const Values& x) { return loss(x, c.w); });
  compare_derivative("dw", c.w, dw, [&](const Values& w) { return loss(c.x, w); });
}

TEST(same_bits_for_any_number_of_threads) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : {kSizes[1], kSizes[3], kSizes[5], Sizes{{100, 0, 333, 1}, 264, 392, 0, false}}) {
      Case c("threads", sizes, t, 0.75f, true);
      const Pointers at(c, false, false);
      Array first_y(c.y, t), first_dx(c.x, t), first_dw(c.dw0, ORIBI_F32), x(c.x, t), dy(c.y, t), w(c.w, t);
      for (int32_t threads : {1, 2, 3}) {
        Context ctx(threads);
        Array y(c.y, t), dx(c.x, t), dw(c.dw0, ORIBI_F32);
        const bool first = threads == 1;
        CHECK_OK(ctx, oribi_grouped_matmul(ctx, first ? first_y.data() : y.data(), x.data(), w.data(), &c.s));
        CHECK_OK(ctx, oribi_grouped_matmul_dx(ctx, first ? first_dx.data() : dx.data(), dy.data(), w.data(), &c.s));
        CHECK_OK(ctx, oribi_grouped_matmul_dw(ctx, first ? first_dw.f32() : dw.f32(), dy.data(), x.data(), &c.s));
        CHECK(first || (y.same_bits(first_y) && dx.same_bits(first_dx) && dw.same_bits(first_dw)));
      }
    }
  }
}

/* Whatever the rows of another expert are, or those of nobody: a tile or a step may reach into them. */
TEST(rows_of_others_do_not_matter) {
  for (oribi_dtype t : kDtypes) {
    for (const Sizes& sizes : {kSizes[3], Sizes{{70, 58, 45, 131}, 136, 264, 0, false}}) {
      Case c("others", sizes, t, 1, true);
      const Pointers at(c, false, false);
      const int64_t experts = c.s.experts, last = c.g.offsets[experts - 1];
      Values x = c.x, y = c.y;
      for (int64_t i = 0; i < c.s.n; i++) {
        const bool other = i >= c.rows || (i >= c.g.offsets[1] && i < last);
        for (int64_t j = 0; other && j < c.s.ld_x; j++) x[i * c.s.ld_x + j] = NAN;
        for (int64_t j = 0; other && j < c.s.ld_y; j++) y[i * c.s.ld_y + j] = NAN;
      }
      Context ctx;
      Array bad_x(x, t), bad_y(y, t), w(c.w, t), out_y(c.y, t), out_dx(c.x, t), out_dw(c.dw0, ORIBI_F32);
      CHECK_OK(ctx, oribi_grouped_matmul(ctx, out_y.data(), bad_x.data(), w.data(), &c.s));
      CHECK_OK(ctx, oribi_grouped_matmul_dx(ctx, out_dx.data(), bad_y.data(), w.data(), &c.s));
      CHECK_OK(ctx, oribi_grouped_matmul_dw(ctx, out_dw.f32(), bad_y.data(), bad_x.data(), &c.s));
      Array good_x(c.x, t), good_y(c.y, t), y0(c.y, t), dx0(c.x, t), dw0(c.dw0, ORIBI_F32);
      CHECK_OK(ctx, oribi_grouped_matmul(ctx, y0.data(), good_x.data(), w.data(), &c.s));
      CHECK_OK(ctx, oribi_grouped_matmul_dx(ctx, dx0.data(), good_y.data(), w.data(), &c.s));
      CHECK_OK(ctx, oribi_grouped_matmul_dw(ctx, dw0.f32(), good_y.data(), good_x.data(), &c.s));
      const auto same = [](const Values& a, const Values& b, int64_t from, int64_t to) {
        for (int64_t i = from; i < to; i++) {
          if (!(a[i] == b[i])) return false;
        }
        return true;
      };
      const Values ys[] = {out_y.values(), y0.values()}, dxs[] = {out_dx.values(), dx0.values()}, dws[] = {out_dw.values(), dw0.values()};
      for (const auto& [from, to] : {std::pair<int64_t, int64_t>{0, c.g.offsets[1]}, {last, c.rows}}) {
        CHECK(same(ys[0], ys[1], from * c.s.ld_y, to * c.s.ld_y));
        CHECK(same(dxs[0], dxs[1], from * c.s.ld_x, to * c.s.ld_x));
      }
      for (int64_t e : {int64_t{0}, experts - 1}) CHECK(same(dws[0], dws[1], e * c.s.expert_w, (e + 1) * c.s.expert_w));
    }
  }
}

/* A part of a row or of a weight begins anywhere: gate beside up, one adapter's columns of h. */
TEST(parts_of_rows) {
  for (oribi_dtype t : kDtypes) {
    for (int64_t shift : {int64_t{8}, int64_t{3}}) {
      Case c("parts", {{20, 0, 45}, 24, 16, 24, false}, t, 1, false);
      const Pointers at(c, false, false);
      Context ctx;
      Array x(c.x, t), w(c.w, t), y(c.y, t);
      const auto part = [&](Array& a) { return static_cast<unsigned char*>(a.data()) + shift * check::size_of(t); };
      CHECK_OK(ctx, oribi_grouped_matmul(ctx, part(y), part(x), w.data(), &c.s));
      Values shifted_x(c.x.begin() + shift, c.x.end()), shifted_y(c.y.begin() + shift, c.y.end());
      Values exact = reference::grouped_matmul<double>(shifted_y, shifted_x, c.w, c.g, c.s);
      exact.insert(exact.begin(), c.y.begin(), c.y.begin() + shift);
      compare("y", y.values(), exact, rounded(exact, t), t, c.x_largest() * 8);
    }
  }
}

TEST(arguments) {
  where = "arguments";
  Context ctx;
  Array a(64, ORIBI_F32, 1);
  Plain<int32_t> offsets({0, 2, 4}), rows(4, 0);
  oribi_grouped_shape s = {4, 2, 3, 2, 3, 2, 3, 6, offsets.data(), nullptr, nullptr, 1, 0, ORIBI_F32};
  const auto forward = [&] { return oribi_grouped_matmul(ctx, a.data(), a.data(), a.data(), &s); };
  s.experts = 0;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "experts must be at least 1, found 0", forward());
  s.experts = 2, s.ld_x = 2;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_x must be at least 3, found 2", forward());
  s.ld_x = 3, s.ld_w = 2;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_w must be at least 3, found 2", forward());
  s.ld_w = 3, s.y_row = rows.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "y_row must be NULL", forward());
  s.y_row = nullptr, s.x_row = rows.data();
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_grouped_matmul_dx: x_row must be NULL",
               oribi_grouped_matmul_dx(ctx, a.data(), a.data(), a.data(), &s));
  s.x_row = nullptr;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "accumulate must be 1", oribi_grouped_matmul_dw(ctx, a.f32(), a.data(), a.data(), &s));
  s.accumulate = 1;
  for (int64_t shared : {0, 2}) {
    s.expert_w = shared;
    CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "two experts would add to the same elements",
                 oribi_grouped_matmul_dw(ctx, a.f32(), a.data(), a.data(), &s));
  }
  s.accumulate = 0, s.expert_w = 6;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "w is NULL", oribi_grouped_matmul(ctx, a.data(), a.data(), nullptr, &s));
  s.scale = INFINITY;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "scale must be finite, found inf", forward());
  s.scale = 1;
  if (ORIBI_TEST_DEVICE == ORIBI_CUDA) {
    setenv("ORIBI_GROUPED", "sideways", 1);
    CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ORIBI_GROUPED is 'sideways', expected mma or nothing", forward());
    unsetenv("ORIBI_GROUPED");
  }
  s.offsets = nullptr;
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "offsets is NULL", forward());
  if (ORIBI_TEST_DEVICE == ORIBI_CPU) {
    int32_t wrong[] = {0, 3, 2};
    s.offsets = wrong;
    CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "offsets[2] is 2, expected 3 to 4", forward());
  }
}
