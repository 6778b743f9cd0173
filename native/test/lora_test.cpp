#include <algorithm>
#include <iterator>

#include "check.h"
#include "lora_ref.h"

using namespace check;
using Values = std::vector<double>;

namespace {

/* Ways to compute the product: the device's choice, and on a GPU the one for every card and the cuts of that for sm_90a. A card
   or a shape without a cut takes its choice. */
struct Way {
  const char* name; /* of ORIBI_LORA_MATMUL; "" is the choice. Where that is set as the program starts, only its way is tested */
};
#ifdef ORIBI_TEST_CUDA
constexpr Way kWays[] = {{""}, {"mma"}, {"256x2"}, {"224x2"}, {"192x2"}, {"128x2"}, {"256x1"}, {"192x1"}, {"128x1"}, {"128/2"}, {"176x2t"}};
/* Ways to compute h beside the product, of ORIBI_LORA_H: one block for all tokens, so that the product waits long, to more
   blocks than there are tiles. */
constexpr Way kWaysOfH[] = {{""}, {"before"}, {"64x1"}, {"64x9"}, {"128x2"}, {"192x3"}, {"256x16"}};
constexpr bool kOnCpu = false;
#else
constexpr Way kWays[] = {{""}};
constexpr Way kWaysOfH[] = {{""}};
constexpr bool kOnCpu = true;
#endif

/* The way that ORIBI_LORA_MATMUL named when the program began, before a test set it; none: all. */
std::vector<Way> set_way() {
  static const char* const set = std::getenv("ORIBI_LORA_MATMUL");
  static const std::string name = set != nullptr ? set : "";
  return set != nullptr ? std::vector<Way>{{name.c_str()}} : std::vector<Way>();
}

/* Quick: with integers, which show any sum that misses a product, two ways a case by turns; otherwise the choice. */
std::vector<Way> ways(bool integers, size_t* turn) {
  const std::vector<Way> set = set_way();
  if (!set.empty()) return set;
  if (!quick() || kOnCpu) return std::vector<Way>(std::begin(kWays), std::end(kWays));
  if (!integers) return {{""}};
  constexpr size_t kCount = std::size(kWays);
  const size_t first = *turn;
  *turn += 2;
  return {kWays[first % kCount], kWays[(first + 1) % kCount]};
}

struct Part {
  int64_t first, outs;
};

oribi_lora_shape make_shape(int64_t n, int64_t in, int64_t out, int64_t rank, std::initializer_list<Part> parts,
                            int64_t gap_x = 0, int64_t gap_y = 0) {
  oribi_lora_shape s{};
  s.n = n;
  s.in = in;
  s.out = out;
  s.ld_x = in + gap_x;
  s.ld_y = out + gap_y;
  s.rank = rank;
  s.t = ORIBI_BF16;
  for (Part part : parts) {
    s.first_out[s.adapters] = part.first;
    s.outs[s.adapters] = part.outs;
    s.scale[s.adapters] = 0.5f * static_cast<float>(s.adapters + 1); /* one for each, so that a mix-up shows */
    s.adapters++;
  }
  return s;
}

/* No adapter to four; columns without one before, between and after; tiles of 128 that two or three adapters share; inner
   sizes that fill no step; strides with gaps; the last two with the inner sizes of real layers. */
std::vector<oribi_lora_shape> all_shapes() {
  return {make_shape(1, 64, 64, 8, {{0, 64}}),
          make_shape(13, 128, 192, 16, {{0, 64}, {64, 128}}, 0, 64),
          make_shape(113, 192, 320, 16, {{0, 192}, {192, 64}, {256, 64}}, 64, 0),
          make_shape(113, 264, 200, 8, {{8, 40}, {104, 72}}, 8, 24),
          make_shape(1000, 128, 448, 64, {{0, 136}, {136, 72}, {208, 112}, {384, 64}}),
          make_shape(300, 320, 384, 0, {}, 64, 64),
          make_shape(130, 64, 136, 24, {{0, 136}}),
          make_shape(40, 128, 576, 256, {{64, 512}}),
          make_shape(100, 64, 200, 40, {{0, 72}, {80, 120}}),
          make_shape(33, 192, 1160, 32, {{8, 1096}}),
          make_shape(70, 4096, 256, 16, {{0, 128}, {128, 128}}),
          make_shape(500, 128, 1280, 16, {{0, 640}, {640, 640}})};
}

/* The quick ones still have several tiles in each direction, a shape without adapters and one with 256 columns of them. */
std::vector<oribi_lora_shape> shapes() {
  constexpr int64_t kQuick = 10'000'000;
  if (!quick()) return all_shapes();
  std::vector<oribi_lora_shape> some = {make_shape(300, 64, 384, 0, {}, 64, 64)};
  for (const oribi_lora_shape& s : all_shapes()) {
    if (s.n * s.in * s.out <= kQuick) some.push_back(s);
  }
  return some;
}

int64_t width_of(const oribi_lora_shape& s) { return s.adapters * s.rank; }
int64_t b_size_of(const oribi_lora_shape& s) {
  int64_t rows = 0;
  for (int p = 0; p < s.adapters; p++) rows += s.outs[p];
  return rows * s.rank;
}

void begin_case(const char* what, const oribi_lora_shape& s) {
  where = std::string(what) + " n=" + std::to_string(s.n) + " in=" + std::to_string(s.in) + " out=" + std::to_string(s.out) +
          " rank=" + std::to_string(s.rank) + " adapters=" + std::to_string(s.adapters) + " " + name_of(s.t);
}

/* Rows with gaps between them, and back. What fills the gaps of an input must not be read. */
Values with_gaps(const Values& values, int64_t rows, int64_t columns, int64_t ld, double fill) {
  Values all(rows * ld, fill);
  for (int64_t i = 0; i < rows * columns; i++) all[i / columns * ld + i % columns] = values[i];
  return all;
}
Values without_gaps(const Values& all, int64_t rows, int64_t columns, int64_t ld) {
  Values values(rows * columns);
  for (int64_t i = 0; i < rows * columns; i++) values[i] = all[i / columns * ld + i % columns];
  return values;
}
bool gaps_keep(const Values& all, int64_t columns, int64_t ld, double fill) {
  for (size_t i = 0; i < all.size(); i++) {
    if (static_cast<int64_t>(i) % ld >= columns && all[i] != fill) return false;
  }
  return true;
}

/* A weight in NF4 by the definition in oribi.h, made of random codes rather than of a weight. */
struct Nf4Codes {
  std::vector<uint8_t> codes, absmax;
  std::vector<float> absmax2, offset;

  Nf4Codes(int64_t rows, int64_t columns, bool integers)
      : codes(rows * columns / 2), absmax(rows * columns / 64), absmax2((absmax.size() + 255) / 256),
        offset{integers ? 0 : 0.08f} {
    Random random(static_cast<uint64_t>(rows * 31 + columns));
    constexpr uint8_t kIntegers[] = {0, 7, 15}; /* -1, 0 and 1 */
    const auto code = [&] { return integers ? kIntegers[random.below(3)] : static_cast<uint8_t>(random.below(16)); };
    for (uint8_t& c : codes) {
      c = static_cast<uint8_t>(code() << 4);
      c |= code();
    }
    for (uint8_t& c : absmax) c = static_cast<uint8_t>(integers ? 255 : random.below(256));
    for (float& s : absmax2) s = static_cast<float>(integers ? 1 : random.uniform(0.02, 0.06));
  }

  /* The weight, rounded to t. */
  Values decode(oribi_dtype t) const {
    constexpr double kQuantiles[] = {-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
                                     -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
                                     0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
                                     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0};
    Values map{0, 1}; /* the signed dynamic map, from its definition */
    for (int i = 0; i < 7; i++) {
      for (int j = 0; j < 1 << i; j++) {
        const double x = std::pow(10.0, i - 6) * (0.1 + 0.9 * (j + 0.5) / (1 << i));
        map.insert(map.end(), {x, -x});
      }
    }
    std::sort(map.begin(), map.end());
    Values w(codes.size() * 2);
    for (size_t i = 0; i < w.size(); i++) {
      const double factor = map[absmax[i / 64]] * absmax2[i / 64 / 256] + offset[0];
      w[i] = round_to(kQuantiles[i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15] * factor, t);
    }
    return w;
  }
};

struct Nf4 {
  Plain<uint8_t> codes, absmax;
  Plain<float> absmax2, offset;

  explicit Nf4(const Nf4Codes& of) : codes(of.codes), absmax(of.absmax), absmax2(of.absmax2), offset(of.offset) {}
  oribi_nf4 arrays() { return {codes.data(), absmax.data(), absmax2.data(), offset.data()}; }
};

struct Data {
  Values x, w, a, b, h, dy, g, da0, db0;
  double term = 0;

  Data(const oribi_lora_shape& s, bool integers) {
    Random random(static_cast<uint64_t>(s.n * 7919 + s.in * 131 + s.out));
    auto make = [&](int64_t count, double std) {
      Values values(count);
      for (double& v : values) v = integers ? static_cast<double>(random.below(3) - 1) : round_to(std * random.normal(), s.t);
      return values;
    };
    x = make(s.n * s.in, 1);
    w = make(s.out * s.in, 0.05);
    a = make(width_of(s) * s.in, 0.1);
    b = make(b_size_of(s), 0.1);
    h = make(s.n * width_of(s), 1);
    dy = make(s.n * s.out, 1);
    g = make(s.n * width_of(s), 1);
    da0 = rounded(make(width_of(s) * s.in, 1), ORIBI_F32);
    db0 = rounded(make(b_size_of(s), 1), ORIBI_F32);
  }
};

/* Plain results of sums of products are stored in t; ours too, from one fp32 sum. */
void compare_products(const char* what, const Values& actual, const Values& exact, const Values& plain, oribi_dtype t,
                      bool integers) {
  if (integers) {
    compare_within(what, actual, exact, 0);
  } else {
    compare(what, actual, exact, rounded(plain, t), t, largest(exact));
  }
}

/* Whether the device has kernels for the shape; where it has none, the calls must say so. Only fp32, and bf16 on a card or
   code older than sm_80, may be refused. */
bool refused(oribi_ctx* ctx, const oribi_lora_shape& s, bool nf4) {
  const char* why = oribi_lora_unsupported(ctx, &s, nf4);
  if (why == nullptr) return false;
  CHECK(!kOnCpu && s.t != ORIBI_F16);
  CHECK(std::string(why).find(s.t == ORIBI_F32 ? "fp32" : "bf16") != std::string::npos);
  Array any(64, s.t);
  Plain<float> sum(64);
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_lora_matmul:",
               oribi_lora_matmul(ctx, any.data(), any.data(), any.data(), nullptr, any.data(), any.data(), &s));
  if (s.adapters > 0) {
    CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_lora_h:", oribi_lora_h(ctx, any.data(), any.data(), any.data(), any.data(), &s));
    CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_lora_g_db:",
                 oribi_lora_g_db(ctx, any.data(), sum.data(), any.data(), any.data(), any.data(), any.data(), &s));
    CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "oribi_lora_da:",
                 oribi_lora_da(ctx, sum.data(), any.data(), any.data(), any.data(), &s));
  }
  return true;
}

/* What the products of a shape are given, and what they should give; made once for all ways. */
struct MatmulCase {
  oribi_lora_shape s;
  bool nf4, integers;
  Data data;
  Nf4Codes codes;
  Values exact_y, plain_y, exact_dx, plain_dx, exact_h, plain_h;

  MatmulCase(const oribi_lora_shape& shape, bool of_nf4, bool of_integers)
      : s(shape), nf4(of_nf4), integers(of_integers), data(s, integers),
        codes(nf4 ? s.out : 1, nf4 ? s.in : 64, integers) {
    if (nf4) data.w = codes.decode(s.t);
    exact_y = reference::lora_matmul<double>(data.x, data.w, data.h, data.b, s);
    exact_dx = reference::lora_matmul_dx<double>(data.dy, data.w, data.g, data.a, s);
    exact_h = reference::lora_h<double>(data.x, data.a, s);
    plain_h = reference::lora_h<float>(data.x, data.a, s);
    plain_y = integers ? exact_y : reference::lora_matmul<float>(data.x, data.w, data.h, data.b, s);
    plain_dx = integers ? exact_dx : reference::lora_matmul_dx<float>(data.dy, data.w, data.g, data.a, s);
  }
};

/* One of the two products, into poison and into other poison. */
template <class Run>
void check_product(oribi_ctx* ctx, const char* what, const MatmulCase& c, int64_t columns, int64_t ld, const Values& exact,
                   const Values& plain, Run&& run) {
  Array first(c.s.n * ld, c.s.t, 7), again(c.s.n * ld, c.s.t, -3);
  CHECK_OK(ctx, run(first.data()));
  const Values found = first.values(), ours = without_gaps(found, c.s.n, columns, ld);
  CHECK(gaps_keep(found, columns, ld, 7));
  compare_products(what, ours, exact, plain, c.s.t, c.integers);
  CHECK_OK(ctx, run(again.data()));
  compare_within("again", without_gaps(again.values(), c.s.n, columns, ld), ours, 0);
}

void check_matmul(oribi_ctx* ctx, const MatmulCase& c, Way way) {
  begin_case((std::string("matmul ") + (c.nf4 ? "nf4 " : "") + (c.integers ? "integers " : "") + way.name).c_str(), c.s);
  setenv("ORIBI_LORA_MATMUL", way.name, 1);
  const oribi_lora_shape& s = c.s;
  Nf4 packed(c.codes);
  const oribi_nf4 arrays = packed.arrays();
  Array w(c.data.w, s.t), a(c.data.a, s.t), b(c.data.b, s.t), h(c.data.h, s.t), g(c.data.g, s.t);
  Array x(with_gaps(c.data.x, s.n, s.in, s.ld_x, NAN), s.t), dy(with_gaps(c.data.dy, s.n, s.out, s.ld_y, NAN), s.t);
  const void* weight = c.nf4 ? nullptr : w.data();
  check_product(ctx, "y", c, s.out, s.ld_y, c.exact_y, c.plain_y, [&](void* y) {
    return oribi_lora_matmul(ctx, y, x.data(), weight, &arrays, h.data(), b.data(), &s);
  });
  check_product(ctx, "dx", c, s.in, s.ld_x, c.exact_dx, c.plain_dx, [&](void* dx) {
    return oribi_lora_matmul_dx(ctx, dx, dy.data(), weight, &arrays, g.data(), a.data(), &s);
  });
  unsetenv("ORIBI_LORA_MATMUL");
}

void check_matmuls(bool integers) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    size_t turn[2] = {0, 0}; /* one for NF4, so that either weight comes by every way */
    for (oribi_lora_shape s : shapes()) {
      s.t = t;
      if (integers && s.in > 1000) continue; /* bf16 holds integers up to 256 */
      for (bool nf4 : {false, true}) {
        begin_case("matmul", s);
        if ((nf4 && s.in % 64 != 0) || refused(ctx, s, nf4)) continue;
        const MatmulCase c(s, nf4, integers);
        for (Way way : ways(integers, &turn[nf4])) check_matmul(ctx, c, way);
      }
    }
  }
}

/* h, g, da and db, twice: into poison and into other poison, with a workspace of NaN and of what was left. */
struct Skinny {
  Values h, g, da, db;
};

Skinny run_skinny(oribi_ctx* ctx, const oribi_lora_shape& s, const Data& data, double poison) {
  Array x(with_gaps(data.x, s.n, s.in, s.ld_x, NAN), s.t), dy(with_gaps(data.dy, s.n, s.out, s.ld_y, NAN), s.t);
  Array a(data.a, s.t), b(data.b, s.t), h_in(data.h, s.t), g_in(data.g, s.t);
  Array h(s.n * width_of(s), s.t, poison), g(s.n * width_of(s), s.t, poison);
  Array da(data.da0, ORIBI_F32), db(data.db0, ORIBI_F32);
  const int64_t bytes = oribi_lora_workspace(ctx, &s);
  CHECK(bytes >= 0);
  Array workspace((bytes + 3) / 4, ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_lora_h(ctx, h.data(), x.data(), a.data(), workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_g_db(ctx, g.data(), db.f32(), dy.data(), b.data(), h_in.data(), workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_da(ctx, da.f32(), g_in.data(), x.data(), workspace.data(), &s));
  return {h.values(), g.values(), da.values(), db.values()};
}

void check_skinny(oribi_ctx* ctx, const oribi_lora_shape& s, bool integers) {
  begin_case(integers ? "skinny integers" : "skinny", s);
  if (refused(ctx, s, false)) return;
  const Data data(s, integers);
  const Skinny ours = run_skinny(ctx, s, data, 7);
  compare_products("h", ours.h, reference::lora_h<double>(data.x, data.a, s), reference::lora_h<float>(data.x, data.a, s),
                   s.t, integers);
  compare_products("g", ours.g, reference::lora_g<double>(data.dy, data.b, s),
                   reference::lora_g<float>(data.dy, data.b, s), s.t, integers);
  compare_products("da", ours.da, reference::lora_da<double>(data.da0, data.g, data.x, s),
                   reference::lora_da<float>(data.da0, data.g, data.x, s), ORIBI_F32, integers);
  compare_products("db", ours.db, reference::lora_db<double>(data.db0, data.dy, data.h, s),
                   reference::lora_db<float>(data.db0, data.dy, data.h, s), ORIBI_F32, integers);
  const Skinny again = run_skinny(ctx, s, data, -3);
  compare_within("h again", again.h, ours.h, 0);
  compare_within("g again", again.g, ours.g, 0);
  compare_within("da again", again.da, ours.da, 0);
  compare_within("db again", again.db, ours.db, 0);
}

/* h and y of the whole layer, and the product alone with that h. */
struct Forward {
  Values y, h, product;
};

Forward run_forward(oribi_ctx* ctx, const MatmulCase& c, double poison) {
  const oribi_lora_shape& s = c.s;
  Nf4 packed(c.codes);
  const oribi_nf4 arrays = packed.arrays();
  Array x(with_gaps(c.data.x, s.n, s.in, s.ld_x, NAN), s.t), w(c.data.w, s.t), a(c.data.a, s.t), b(c.data.b, s.t);
  Array y(s.n * s.ld_y, s.t, 7), again(s.n * s.ld_y, s.t, 7), h(s.n * width_of(s), s.t, poison);
  Array workspace((oribi_lora_workspace(ctx, &s) + 3) / 4, ORIBI_F32, NAN);
  const void* weight = c.nf4 ? nullptr : w.data();
  CHECK_OK(ctx, oribi_lora_forward(ctx, y.data(), h.data(), x.data(), weight, &arrays, a.data(), b.data(), workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_matmul(ctx, again.data(), x.data(), weight, &arrays, h.data(), b.data(), &s));
  CHECK(gaps_keep(y.values(), s.out, s.ld_y, 7));
  return {without_gaps(y.values(), s.n, s.out, s.ld_y), h.values(), without_gaps(again.values(), s.n, s.out, s.ld_y)};
}

/* h is right, and y is to the bit what the product gives for it: had it read h too early, it would have read poison. */
void check_forward(oribi_ctx* ctx, const MatmulCase& c, Way way, Way of_h) {
  begin_case((std::string("forward ") + (c.nf4 ? "nf4 " : "") + way.name + " h " + of_h.name).c_str(), c.s);
  setenv("ORIBI_LORA_MATMUL", way.name, 1);
  setenv("ORIBI_LORA_H", of_h.name, 1);
  const Forward ours = run_forward(ctx, c, NAN), again = run_forward(ctx, c, -3);
  unsetenv("ORIBI_LORA_H");
  unsetenv("ORIBI_LORA_MATMUL");
  compare_products("h", ours.h, c.exact_h, c.plain_h, c.s.t, c.integers);
  compare_within("y, as the product's", ours.y, ours.product, 0);
  compare_within("h again", again.h, ours.h, 0);
  compare_within("y again", again.y, ours.y, 0);
}

}  // namespace

TEST(matmul_of_integers_is_exact) { check_matmuls(true); }

TEST(matmul) { check_matmuls(false); }

#ifdef ORIBI_TEST_CUDA
/* More tiles than a card runs blocks at once, three and more for each, so that every block works through several and a consumer comes
   to its second. Quick: by the device's choice and by the cut whose consumers take turns. */
TEST(matmul_of_more_tiles_than_blocks) {
  Context ctx;
  oribi_lora_shape s = make_shape(34200, 64, 64, 8, {{0, 64}});
  s.t = ORIBI_F16;
  for (bool nf4 : {false, true}) {
    const MatmulCase c(s, nf4, true);
    std::vector<Way> some = set_way();
    if (some.empty() && quick()) some = {{""}, {"176x2t"}};
    for (Way way : some.empty() ? std::vector<Way>(std::begin(kWays), std::end(kWays)) : some) check_matmul(ctx, c, way);
  }
}
#endif

TEST(skinny_products_of_integers_are_exact) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (oribi_lora_shape s : shapes()) {
      s.t = t;
      if (s.adapters > 0 && s.in <= 1000) check_skinny(ctx, s, true);
    }
  }
}

TEST(skinny_products) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (oribi_lora_shape s : shapes()) {
      s.t = t;
      if (s.adapters > 0) check_skinny(ctx, s, false);
    }
  }
}

TEST(forward) {
  Context ctx;
  for (oribi_dtype t : kDtypes) {
    for (oribi_lora_shape s : shapes()) {
      s.t = t;
      for (bool nf4 : {false, true}) {
        begin_case("forward", s);
        if ((nf4 && s.in % 64 != 0) || refused(ctx, s, nf4)) continue;
        const MatmulCase c(s, nf4, !nf4 && s.in <= 1000);
        for (Way of_h : kWaysOfH) {
          const bool thorough = !nf4 || of_h.name[0] == '\0' || std::string(of_h.name) == "64x9";
          if (thorough) check_forward(ctx, c, Way{""}, of_h);
        }
        if (nf4 || kOnCpu) continue;
        for (const char* way : {"mma", "256x2", "176x2t", "128/2"}) check_forward(ctx, c, Way{way}, Way{"64x9"});
      }
    }
  }
}

#ifdef ORIBI_TEST_CUDA
/* Several waves of tiles, with and without processors to spare, the product ahead of h and behind it. */
TEST(forward_waits_for_h) {
  Context ctx;
  std::vector<oribi_lora_shape> some = {make_shape(1500, 1024, 4096, 16, {{0, 2048}, {2048, 1024}, {3072, 1024}}), make_shape(2048, 512, 4096, 16, {{0, 4096}}),
                                        make_shape(700, 2048, 3072, 32, {{512, 1024}})};
  if (quick()) some = {make_shape(700, 128, 768, 32, {{256, 256}})};
  for (oribi_lora_shape s : some) {
    s.t = ORIBI_F16;
    const Data data(s, false);
    Array x(data.x, s.t), w(data.w, s.t), a(data.a, s.t), b(data.b, s.t), y(s.n * s.out, s.t), product(s.n * s.out, s.t);
    Array h_alone(s.n * width_of(s), s.t), workspace((oribi_lora_workspace(ctx, &s) + 3) / 4, ORIBI_F32, NAN);
    CHECK_OK(ctx, oribi_lora_h(ctx, h_alone.data(), x.data(), a.data(), workspace.data(), &s));
    const Values exact = reference::lora_h<double>(data.x, data.a, s), plain = rounded(reference::lora_h<float>(data.x, data.a, s), s.t);
    for (Way of_h : kWaysOfH) {
      begin_case((std::string("forward_waits_for_h ") + of_h.name).c_str(), s);
      Array h(s.n * width_of(s), s.t, NAN);
      setenv("ORIBI_LORA_H", of_h.name, 1);
      CHECK_OK(ctx, oribi_lora_forward(ctx, y.data(), h.data(), x.data(), w.data(), nullptr, a.data(), b.data(), workspace.data(), &s));
      unsetenv("ORIBI_LORA_H");
      CHECK_OK(ctx, oribi_lora_matmul(ctx, product.data(), x.data(), w.data(), nullptr, h.data(), b.data(), &s));
      compare("h", h.values(), exact, plain, s.t, largest(exact));
      compare_within("y", y.values(), product.values(), 0);
      if (std::string(of_h.name) == "before") compare_within("h before", h.values(), h_alone.values(), 0);
    }
  }
}

TEST(unknown_way_of_h) {
  Context ctx;
  oribi_lora_shape s = make_shape(2, 64, 64, 8, {{0, 64}});
  s.t = ORIBI_F16;
  Array any(4096, s.t, 3);
  for (const char* name : {"sideways", "100x4", "64x", "64x0", "320x2", "64x4x"}) {
    setenv("ORIBI_LORA_H", name, 1);
    CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ORIBI_LORA_H is",
                 oribi_lora_forward(ctx, any.data(), any.data(), any.data(), any.data(), nullptr, any.data(), any.data(), any.data(), &s));
  }
  unsetenv("ORIBI_LORA_H");
}
#endif

/* Sizes at which a card does not do with what the shapes above take: more units of h and of dA than it runs at once, and enough tokens for
   wide units of G and dB, at a small and at a large rank. */
TEST(skinny_products_of_many_tokens) {
  Context ctx;
  for (oribi_lora_shape s : {make_shape(17100, 64, 64, 16, {{0, 64}}), make_shape(40, 34200, 64, 16, {{0, 64}}),
                             make_shape(4400, 64, 1000, 40, {{0, 1000}})}) {
    s.t = ORIBI_F16;
    check_skinny(ctx, s, false);
  }
}

/* One workspace serves every smaller shape: it may not shrink as a size grows. */
TEST(workspace_grows_with_each_size) {
  Context ctx;
  const oribi_lora_shape large = make_shape(1000, 4096, 1024, 64, {{0, 512}, {512, 256}, {768, 256}});
  const int64_t bytes = oribi_lora_workspace(ctx, &large);
  CHECK(bytes >= 0);
  for (int64_t n : {1, 63, 64, 65, 512, 999}) {
    oribi_lora_shape s = large;
    s.n = n;
    CHECK(oribi_lora_workspace(ctx, &s) <= bytes);
  }
  oribi_lora_shape more = large; /* beyond what takes the card's widest units */
  more.n = 20000;
  const int64_t more_bytes = oribi_lora_workspace(ctx, &more);
  for (int64_t n : {1000, 1023, 1056, 4223, 4224, 4225, 8448, 16896, 19999}) {
    oribi_lora_shape s = more;
    s.n = n;
    CHECK(oribi_lora_workspace(ctx, &s) <= more_bytes);
    s.outs[0] = 8, s.out = s.first_out[1] = 8, s.adapters = 1;
    CHECK(oribi_lora_workspace(ctx, &s) <= more_bytes);
  }
  for (int64_t rank : {8, 16, 24, 32, 40, 48, 56}) {
    oribi_lora_shape s = large;
    s.rank = rank;
    CHECK(oribi_lora_workspace(ctx, &s) <= bytes);
    s.adapters = 1;
    s.in = 512;
    CHECK(oribi_lora_workspace(ctx, &s) <= bytes);
  }
}

TEST(reference_backward_by_finite_differences) {
  oribi_lora_shape s = make_shape(3, 5, 9, 8, {{1, 3}, {5, 4}});
  s.t = ORIBI_F32;
  const Data data(s, false);
  const Values h = reference::lora_h<double>(data.x, data.a, s), g = reference::lora_g<double>(data.dy, data.b, s);
  auto loss = [&](const Values& x, const Values& a, const Values& b) {
    const Values y = reference::lora_matmul<double>(x, data.w, reference::lora_h<double>(x, a, s), b, s);
    double sum = 0;
    for (size_t i = 0; i < y.size(); i++) sum += y[i] * data.dy[i];
    return sum;
  };
  compare_derivative("dx", data.x, reference::lora_matmul_dx<double>(data.dy, data.w, g, data.a, s),
                     [&](const Values& x) { return loss(x, data.a, data.b); });
  compare_derivative("da", data.a, reference::lora_da<double>(Values(data.a.size()), g, data.x, s),
                     [&](const Values& a) { return loss(data.x, a, data.b); });
  compare_derivative("db", data.b, reference::lora_db<double>(Values(data.b.size()), data.dy, h, s),
                     [&](const Values& b) { return loss(data.x, data.a, b); });
}

/* An infinite or undefined element of x reaches its own row of y and of h, and no other. */
TEST(not_a_number_stays_in_its_row) {
  Context ctx;
  oribi_lora_shape s = make_shape(150, 128, 192, 16, {{0, 192}});
  s.t = ORIBI_F16;
  Data data(s, false);
  data.x[140 * s.in + 77] = NAN;
  Array x(data.x, s.t), w(data.w, s.t), a(data.a, s.t), b(data.b, s.t), h_in(data.h, s.t), y(s.n * s.out, s.t), h(s.n * 16, s.t);
  Array workspace((oribi_lora_workspace(ctx, &s) + 3) / 4, ORIBI_F32, NAN);
  CHECK_OK(ctx, oribi_lora_matmul(ctx, y.data(), x.data(), w.data(), nullptr, h_in.data(), b.data(), &s));
  CHECK_OK(ctx, oribi_lora_h(ctx, h.data(), x.data(), a.data(), workspace.data(), &s));
  for (int64_t i = 0; i < s.n * s.out; i++) CHECK(std::isnan(y.get(i)) == (i / s.out == 140));
  for (int64_t i = 0; i < s.n * 16; i++) CHECK(std::isnan(h.get(i)) == (i / 16 == 140));
}

TEST(no_rows) {
  Context ctx;
  oribi_lora_shape s = make_shape(0, 64, 64, 8, {{0, 64}});
  s.t = ORIBI_F16;
  Array w(64 * 64, s.t), b(64 * 8, s.t), da(8 * 64, ORIBI_F32, 5), db(64 * 8, ORIBI_F32, 5);
  Array workspace((oribi_lora_workspace(ctx, &s) + 3) / 4, ORIBI_F32);
  CHECK_OK(ctx, oribi_lora_matmul(ctx, nullptr, nullptr, w.data(), nullptr, nullptr, b.data(), &s));
  CHECK_OK(ctx, oribi_lora_matmul_dx(ctx, nullptr, nullptr, w.data(), nullptr, nullptr, b.data(), &s));
  CHECK_OK(ctx, oribi_lora_h(ctx, nullptr, nullptr, b.data(), workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_forward(ctx, nullptr, nullptr, nullptr, w.data(), nullptr, b.data(), b.data(), workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_g_db(ctx, nullptr, db.f32(), nullptr, b.data(), nullptr, workspace.data(), &s));
  CHECK_OK(ctx, oribi_lora_da(ctx, da.f32(), nullptr, nullptr, workspace.data(), &s));
  compare_within("da", da.values(), Values(8 * 64, 5), 0);
  compare_within("db", db.values(), Values(64 * 8, 5), 0);
}

#ifdef ORIBI_TEST_CUDA
/* A kernel that is asked for by a wrong name is not silently another one. */
TEST(unknown_kernel) {
  Context ctx;
  oribi_lora_shape s = make_shape(2, 64, 64, 8, {{0, 64}});
  s.t = ORIBI_F16;
  Array any(4096, s.t, 3);
  setenv("ORIBI_LORA_MATMUL", "sideways", 1);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "'sideways'",
               oribi_lora_matmul(ctx, any.data(), any.data(), any.data(), nullptr, any.data(), any.data(), &s));
  unsetenv("ORIBI_LORA_MATMUL");
}
#endif

TEST(arguments) {
  Context ctx;
  Array any(4096, ORIBI_F16, 3);
  Plain<float> sum(4096);
  void* p = any.data();
  const auto call = [&](const oribi_lora_shape& s) { return oribi_lora_matmul(ctx, p, p, p, nullptr, p, p, &s); };
  const auto changed = [](auto&& change) {
    oribi_lora_shape s = make_shape(2, 64, 32, 8, {{0, 8}, {8, 8}});
    s.t = ORIBI_F16;
    change(s);
    return s;
  };
  const oribi_lora_shape good = changed([](oribi_lora_shape&) {});
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_lora_matmul: shape is NULL", oribi_lora_matmul(ctx, p, p, p, nullptr, p, p, nullptr));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "n must be at least 0, found -1", call(changed([](oribi_lora_shape& s) { s.n = -1; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "ld_x must be at least 64, found 8", call(changed([](oribi_lora_shape& s) { s.ld_x = 8; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "rank is 12, expected a multiple of 8", call(changed([](oribi_lora_shape& s) { s.rank = 12; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "adapters is 5, expected 0 to 4", call(changed([](oribi_lora_shape& s) { s.adapters = 5; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "adapter 1 has columns 7 + 8 of 32", call(changed([](oribi_lora_shape& s) { s.first_out[1] = 7; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "adapter 1 has columns 8 + 25 of 32", call(changed([](oribi_lora_shape& s) { s.outs[1] = 25; })));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "w and nf4 are both NULL", oribi_lora_matmul(ctx, p, p, nullptr, nullptr, p, p, &good));
  const oribi_nf4 empty{};
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "nf4.codes is NULL", oribi_lora_matmul_dx(ctx, p, p, nullptr, &empty, p, p, &good));
  Plain<uint8_t> bytes(4096);
  const oribi_nf4 full{bytes.data(), bytes.data(), sum.data(), sum.data()};
  const oribi_lora_shape narrow = changed([](oribi_lora_shape& s) { s.in = s.ld_x = 40; });
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "in is 40, expected a multiple of 64", oribi_lora_matmul(ctx, p, p, nullptr, &full, p, p, &narrow));
  CHECK(std::string(oribi_lora_unsupported(ctx, &narrow, 1)).find("multiple of 64") != std::string::npos);
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "h is NULL", oribi_lora_matmul(ctx, p, p, p, nullptr, nullptr, p, &good));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_lora_h: x is NULL", oribi_lora_h(ctx, p, nullptr, p, p, &good));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "a is NULL", oribi_lora_forward(ctx, p, p, p, p, nullptr, nullptr, p, p, &good));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_lora_g_db: db is NULL", oribi_lora_g_db(ctx, p, nullptr, p, p, p, p, &good));
  CHECK_STATUS(ctx, ORIBI_INVALID_ARGUMENT, "oribi_lora_da: g is NULL", oribi_lora_da(ctx, sum.data(), nullptr, p, p, &good));
  CHECK(oribi_lora_matmul(nullptr, p, p, p, nullptr, p, p, &good) == ORIBI_INVALID_ARGUMENT);
  CHECK(oribi_lora_unsupported(ctx, &good, 0) == nullptr);
#ifdef ORIBI_TEST_CUDA
  const oribi_lora_shape odd = changed([](oribi_lora_shape& s) { s.out = 33; s.ld_y = 40; });
  CHECK(std::string(oribi_lora_unsupported(ctx, &odd, 0)).find("multiple of 8") != std::string::npos);
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "out is 33", call(odd));
  const oribi_lora_shape shifted = changed([](oribi_lora_shape& s) { s.first_out[1] = 12; });
  CHECK_STATUS(ctx, ORIBI_UNSUPPORTED, "first_out", call(shifted));
  /* What has a stride may begin anywhere; a copy of 16 bytes from there would end the context. */
  void* part = static_cast<uint8_t*>(p) + 8;
  const char* const begins = "begins 8 bytes after a multiple of 16";
  const auto refused = [&](oribi_status status) {
    CHECK(status == ORIBI_UNSUPPORTED && std::string(oribi_ctx_message(ctx)).find(begins) != std::string::npos);
  };
  for (void* x : {p, part}) {
    void* y = x == p ? part : p;
    refused(oribi_lora_matmul(ctx, y, x, p, nullptr, p, p, &good));
    refused(oribi_lora_matmul_dx(ctx, x, y, p, nullptr, p, p, &good));
    refused(oribi_lora_forward(ctx, y, p, x, p, nullptr, p, p, p, &good));
  }
  refused(oribi_lora_h(ctx, p, part, p, p, &good));
  refused(oribi_lora_g_db(ctx, p, sum.data(), part, p, p, p, &good));
  refused(oribi_lora_da(ctx, sum.data(), p, part, p, &good));
  CHECK_OK(ctx, oribi_ctx_synchronize(ctx));
#endif
  compare_within("untouched", any.values(), Values(4096, 3), 0);
}
