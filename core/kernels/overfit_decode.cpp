// Decoder of the overfitted codec: range decoding of latents under their context model, and the picture made of them.
//
// overfit/exact.py and overfit/coder.py compute the same with numpy. Numbers are doubles that hold multiples of small
// powers of two, so large at most that every sum is exact in any order: all machines get the same ones.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LEVELS = 7, CONTEXT = 16, HIDDEN = 16, WIDE = 24, BLOCK = 32, EDGE = 4, SLOPE = 3;
constexpr int DY[CONTEXT] = {0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3};  // rows above
constexpr int DX[CONTEXT] = {-1, -2, -3, -3, -2, -1, 0, 1, 2, -2, -1, 0, 1, 2, -1, 0};
constexpr int W1 = 0, B1 = W1 + HIDDEN * CONTEXT, W2 = B1 + LEVELS * HIDDEN, B2 = W2 + HIDDEN * HIDDEN,
              W3 = B2 + HIDDEN, B3 = W3 + 2 * HIDDEN, V1 = B3 + 2, C1 = V1 + WIDE * LEVELS, V2 = C1 + WIDE,
              C2 = V2 + 3 * WIDE, K1 = C2 + 3, E1 = K1 + 81, K2 = E1 + 3, E2 = K2 + 81;
constexpr double LIMIT = 8191, MOST = 32768, BRIGHT = 1024;  // of latents, of hidden units, of what filters take
constexpr double FINE = 256, HALF = 1024, LIGHT = 4096, STEP = 64;  // parts of one that these, and samples, have

constexpr int LANES = 4;
typedef double V __attribute__((vector_size(8 * LANES)));

inline V load(const double* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(double* p, V v) { std::memcpy(p, &v, sizeof v); }
inline double rounded(double x, double parts) { return std::floor(x * parts + 0.5) * (1 / parts); }
inline double within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

template <int O, int IN>
void forward(const double* w, const double* b, const double (*x)[BLOCK], double (*y)[BLOCK]) {
    constexpr int S = O % 8 == 0 ? 8 : O;
    for (int p = 0; p < BLOCK; p += LANES)
        for (int o = 0; o < O; o += S) {
            V acc[S];
            for (int k = 0; k < S; ++k) acc[k] = V{} + b[o + k];
            for (int i = 0; i < IN; ++i) {
                const V v = load(&x[i][p]);
#pragma GCC unroll 8
                for (int k = 0; k < S; ++k) acc[k] += w[(o + k) * IN + i] * v;
            }
            for (int k = 0; k < S; ++k) store(&y[o + k][p], acc[k]);
        }
}

struct Model {  // what the latents seen say of the next: whole part and sixteenths of its location, its scale
    const double* w;
    int level;
    double x[CONTEXT][BLOCK], h1[HIDDEN][BLOCK], h2[HIDDEN][BLOCK], out[2][BLOCK];
    int32_t base[BLOCK], table[BLOCK];
    void predict() {
        forward<HIDDEN, CONTEXT>(w + W1, w + B1 + level * HIDDEN, x, h1);
        for (auto& row : h1)
            for (double& v : row) v = within(rounded(v, FINE), 0, MOST);
        forward<HIDDEN, HIDDEN>(w + W2, w + B2, h1, h2);
        for (int o = 0; o < HIDDEN; ++o)
            for (int p = 0; p < BLOCK; ++p) h2[o][p] = within(rounded(h2[o][p] + h1[o][p], FINE), 0, MOST);
        forward<2, HIDDEN>(w + W3, w + B3, h2, out);
        for (int p = 0; p < BLOCK; ++p) {
            const auto place = static_cast<int32_t>(std::floor(within(out[0][p], -LIMIT, LIMIT) * 16 + 0.5));
            const auto scale = static_cast<int32_t>(within(std::floor(out[1][p] * 8 + 29.5), 0, 63));
            base[p] = place >> 4;
            table[p] = scale * 16 + (place & 15);
        }
    }
};

struct Grid {  // latents with zeros around
    int stride;
    std::vector<double> values;
    Grid(int height, int width) : stride(width + 2 * EDGE), values(static_cast<size_t>(height + EDGE) * stride) {}
    double* at(int y, int x) { return &values[static_cast<size_t>(y + EDGE) * stride + x + EDGE]; }
};

struct Tables {  // of a scale: symbols from low[scale], count[scale] of them and one for all others
    const uint32_t* cumulative;
    const int32_t *start, *low, *count;
};

struct Coder {
    const uint8_t* data;
    int64_t size, at;
    uint32_t range, code;
    void grow() {
        while (range < 1u << 24) {
            code = code << 8 | (at < size ? data[at] : 0u);
            ++at;
            range <<= 8;
        }
    }
    uint32_t uniform(int bits) {
        range >>= bits;
        const uint32_t v = std::min(code / range, (1u << bits) - 1);
        code -= range * v;
        grow();
        return v;
    }
    int32_t symbol(const Tables& tables, int table) {
        const int scale = table / 16, n = tables.count[scale];
        const uint32_t* c = tables.cumulative + tables.start[table];
        range >>= 16;
        const uint32_t v = std::min(code / range, 65535u);
        const int i = static_cast<int>(std::upper_bound(c + 1, c + n + 1, v) - c) - 1;
        code -= range * c[i];
        range *= c[i + 1] - c[i];
        grow();
        if (i < n) return tables.low[scale] + i;
        const int length = static_cast<int>(uniform(4));
        const auto excess = static_cast<int32_t>(((1u << length) | (length ? uniform(length) : 0u)) - 1);
        return excess % 2 ? tables.low[scale] - 1 - excess / 2 : tables.low[scale] + n + excess / 2;
    }
};

// A row of twice as many samples, cut to `out`; sample 2 i lies a quarter before sample i.
void widen(const double* row, double* to, int out) {
    for (int x = 0; x < out; ++x) {
        const double* c = row + x / 2;
        const double v = x % 2 ? -9 * c[-1] + 111 * c[0] + 29 * c[1] - 3 * c[2] : -3 * c[-2] + 29 * c[-1] + 111 * c[0] - 9 * c[1];
        to[x] = rounded(v * (1 / 128.0), STEP);
    }
}

void upsample(const double* from, int h, int w, double* to, int H, int W) {
    std::vector<double> wide(static_cast<size_t>(h) * W), row(w + 4);
    for (int y = 0; y < h; ++y) {
        for (int x = -2; x < w + 2; ++x) row[x + 2] = from[static_cast<size_t>(y) * w + std::clamp(x, 0, w - 1)];
        widen(row.data() + 2, &wide[static_cast<size_t>(y) * W], W);
    }
    for (int y = 0; y < H; ++y) {
        const double* lines[4];  // nearest first
        const int turn = y % 2 ? 1 : -1;
        for (int k = 0; k < 4; ++k) {
            const int away[4] = {0, turn, -turn, 2 * turn};
            lines[k] = &wide[static_cast<size_t>(std::clamp(y / 2 + away[k], 0, h - 1)) * W];
        }
        double* line = to + static_cast<size_t>(y) * W;
        for (int x = 0; x < W; ++x)
            line[x] = rounded((111 * lines[0][x] + 29 * lines[1][x] - 9 * lines[2][x] - 3 * lines[3][x]) * (1 / 128.0), STEP);
    }
}

// Planes plus their convolution, edges repeated; k is (out, in, 3, 3).
std::vector<double> filtered(const std::vector<double>& in, int height, int width, const double* k, const double* bias) {
    const size_t pixels = static_cast<size_t>(height) * width;
    std::vector<double> out(in.size()), row(3 * 3 * static_cast<size_t>(width + 2));
    for (int y = 0; y < height; ++y) {
        for (int c = 0; c < 3; ++c)
            for (int r = 0; r < 3; ++r) {
                const double* from = &in[c * pixels + static_cast<size_t>(std::clamp(y + r - 1, 0, height - 1)) * width];
                double* to = &row[(c * 3 + r) * static_cast<size_t>(width + 2)];
                std::copy(from, from + width, to + 1);
                to[0] = from[0];
                to[width + 1] = from[width - 1];
            }
        for (int o = 0; o < 3; ++o) {
            const double* self = &in[o * pixels + static_cast<size_t>(y) * width];
            double* to = &out[o * pixels + static_cast<size_t>(y) * width];
            for (int x = 0; x < width; ++x) to[x] = self[x] + bias[o];
            for (int i = 0; i < 9; ++i) {
                const double *w = k + o * 27 + i * 3, *from = &row[i * static_cast<size_t>(width + 2)];
                for (int x = 0; x < width; ++x) to[x] += w[0] * from[x] + w[1] * from[x + 1] + w[2] * from[x + 2];
            }
        }
    }
    return out;
}

}  // namespace

// Latents of a level in coding order: along lines of equal x + 3 y, from the top. `state` is range, code, place in data.
// Returns 0, or 1 for a latent that no encoder writes.
extern "C" int overfit_latents(const uint8_t* data, int64_t size, int64_t* state, const uint32_t* cumulative,
                               const int32_t* start, const int32_t* low, const int32_t* count, const double* weights,
                               int32_t level, int32_t height, int32_t width, int32_t* out) {
    const Tables tables{cumulative, start, low, count};
    Coder coder{data, size, state[2], static_cast<uint32_t>(state[0]), static_cast<uint32_t>(state[1])};
    Grid grid(height, width);
    Model model{};
    model.w = weights;
    model.level = level;
    const int64_t lines = width + static_cast<int64_t>(SLOPE) * (height - 1);
    for (int64_t t = 0; t < lines; ++t) {
        const int first = t < width ? 0 : static_cast<int>((t - width) / SLOPE + 1);
        const int last = std::min<int>(height - 1, static_cast<int>(t / SLOPE));
        for (int y = first; y <= last; y += BLOCK) {
            const int n = std::min(BLOCK, last + 1 - y);
            for (int p = 0; p < n; ++p) {
                const double* here = grid.at(y + p, static_cast<int>(t - SLOPE * (y + p)));
                for (int i = 0; i < CONTEXT; ++i) model.x[i][p] = here[DX[i] - DY[i] * static_cast<int64_t>(grid.stride)];
            }
            model.predict();
            for (int p = 0; p < n; ++p) {
                const int x = static_cast<int>(t - SLOPE * (y + p));
                const int32_t v = model.base[p] + coder.symbol(tables, model.table[p]);
                if (v > LIMIT || v < -LIMIT) return 1;
                *grid.at(y + p, x) = v;
                out[static_cast<size_t>(y + p) * width + x] = v;
            }
        }
    }
    state[0] = coder.range;
    state[1] = coder.code;
    state[2] = coder.at;
    return 0;
}

// What the model says of every latent of a level, in raster order.
extern "C" void overfit_predict(const int32_t* latents, const double* weights, int32_t level, int32_t height,
                                int32_t width, int32_t* base, int32_t* table) {
    Grid grid(height, width + BLOCK);
    Model model{};
    model.w = weights;
    model.level = level;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) *grid.at(y, x) = latents[static_cast<size_t>(y) * width + x];
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; x += BLOCK) {
            for (int i = 0; i < CONTEXT; ++i) std::memcpy(model.x[i], grid.at(y - DY[i], x + DX[i]), sizeof model.x[i]);
            model.predict();
            const int n = std::min(BLOCK, width - x);
            const size_t i = static_cast<size_t>(y) * width + x;
            std::copy_n(model.base, n, base + i);
            std::copy_n(model.table, n, table + i);
        }
}

// The bytes of symbols, each `frequency` of 2^bits from `start`; returns how many. `out` has room for 4 a symbol and 8.
extern "C" int64_t overfit_encode(int64_t count, const uint32_t* start, const uint32_t* frequency, const uint8_t* bits,
                                  uint8_t* out) {
    int64_t at = 0;
    uint64_t low = 0;
    uint32_t range = 0xffffffffu;
    const auto carry = [&] {
        if (low >> 32) {
            int64_t i = at - 1;
            while (out[i] == 255) out[i--] = 0;
            ++out[i];
            low &= 0xffffffffu;
        }
    };
    for (int64_t i = 0; i < count; ++i) {
        range >>= bits[i];
        low += static_cast<uint64_t>(range) * start[i];
        range *= frequency[i];
        carry();
        while (range < 1u << 24) {
            out[at++] = static_cast<uint8_t>(low >> 24);
            low = low << 8 & 0xffffffffu;
            range <<= 8;
        }
    }
    for (int zeros = 24; zeros >= 0; zeros -= 8) {  // the fewest bytes that stand for a number of the last interval
        const uint64_t point = ((low + (1ull << zeros) - 1) >> zeros) << zeros;
        if (point >= low + range) continue;
        low = point;
        carry();
        for (int k = 24; k >= zeros; k -= 8) out[at++] = static_cast<uint8_t>(low >> k);
        break;
    }
    while (at && !out[at - 1]) --at;
    return at;
}

// The picture (3, H, W) made of grids of latents, the finest first.
extern "C" void overfit_picture(const int32_t* sides, const int32_t* latents, const double* w, uint8_t* out) {
    std::vector<std::vector<double>> stack;  // the grids so far, the coarsest first
    const int32_t* end = latents;
    for (int k = 0; k < LEVELS; ++k) end += static_cast<size_t>(sides[2 * k]) * sides[2 * k + 1];
    for (int k = LEVELS - 1; k >= 0; --k) {
        const int h = sides[2 * k], width = sides[2 * k + 1];
        const size_t pixels = static_cast<size_t>(h) * width;
        for (auto& plane : stack) {
            std::vector<double> larger(pixels);
            upsample(plane.data(), sides[2 * k + 2], sides[2 * k + 3], larger.data(), h, width);
            plane.swap(larger);
        }
        end -= pixels;
        stack.emplace_back(end, end + pixels);
    }
    const int height = sides[0], width = sides[1];
    const size_t pixels = static_cast<size_t>(height) * width;
    std::vector<double> planes(3 * pixels);
    double x[LEVELS][BLOCK] = {}, h[WIDE][BLOCK], y[3][BLOCK];
    for (size_t start = 0; start < pixels; start += BLOCK) {
        const size_t n = std::min<size_t>(BLOCK, pixels - start);
        for (int i = 0; i < LEVELS; ++i) std::copy_n(&stack[LEVELS - 1 - i][start], n, x[i]);
        forward<WIDE, LEVELS>(w + V1, w + C1, x, h);
        for (auto& row : h)
            for (double& v : row) v = within(rounded(v, HALF), 0, MOST);
        forward<3, WIDE>(w + V2, w + C2, h, y);
        for (int o = 0; o < 3; ++o)
            for (size_t p = 0; p < n; ++p) planes[o * pixels + start + p] = within(rounded(y[o][p], LIGHT), -BRIGHT, BRIGHT);
    }
    planes = filtered(planes, height, width, w + K1, w + E1);
    for (double& v : planes) v = within(rounded(v, LIGHT), 0, BRIGHT);
    planes = filtered(planes, height, width, w + K2, w + E2);
    for (size_t i = 0; i < planes.size(); ++i)
        out[i] = static_cast<uint8_t>(within(std::floor(planes[i] * 255 + 0.5), 0, 255));
}
