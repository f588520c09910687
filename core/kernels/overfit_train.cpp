// Loss of an overfitted picture and its gradient, float32, one thread: rate of the latents under their context model,
// squared error of the picture made of them. overfit/plain.py computes the same with torch and says what is what.
//
// Pixels and latents go in blocks through small matrix products whose operands stay in the first-level cache.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr int LEVELS = 7, CONTEXT = 16, HIDDEN = 16, WIDE = 24, BLOCK = 64, EDGE = 4, PAD = 8;
constexpr int DY[CONTEXT] = {0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3};  // rows above
constexpr int DX[CONTEXT] = {-1, -2, -3, -3, -2, -1, 0, 1, 2, -2, -1, 0, 1, 2, -1, 0};
constexpr float LOW = -3.625f, HIGH = 4.25f;  // of the log scale

// Places of the weights, as in overfit/layout.py.
constexpr int W1 = 0, B1 = W1 + HIDDEN * CONTEXT, W2 = B1 + LEVELS * HIDDEN, B2 = W2 + HIDDEN * HIDDEN,
              W3 = B2 + HIDDEN, B3 = W3 + 2 * HIDDEN, V1 = B3 + 2, C1 = V1 + WIDE * LEVELS, V2 = C1 + WIDE,
              C2 = V2 + 3 * WIDE, K1 = C2 + 3, E1 = K1 + 81, K2 = E1 + 3, E2 = K2 + 81, WEIGHTS = E2 + 3;

constexpr int LANES = 8;
typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

inline V load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline V all(float x) { return V{} + x; }
inline V choose(I mask, V a, V b) { return (V)((mask & (I)a) | (~mask & (I)b)); }
inline V least(V a, V b) { return choose(a < b, a, b); }
inline V most(V a, V b) { return choose(a > b, a, b); }
inline float sum(V v) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

inline V exponential(V x) {  // to 2e-7, for x from -87 to 87
    x = most(least(x, all(87.f)), all(-87.f)) * 1.4426950408889634f;
    const V whole = x + 12582912.f;  // rounds to the nearest integer, left in the low bits
    const V r = (x - (whole - 12582912.f)) * 0.6931471805599453f;
    V p = all(1.f / 720);
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    return (V)((I)p + ((I)whole << 23));
}

inline V logarithm(V x) {  // of positive numbers
    const I bits = (I)x - 0x3f3504f3;
    const I power = bits >> 23;
    const V m = (V)((bits & 0x007fffff) + 0x3f3504f3);  // sqrt(1/2) to sqrt(2)
    const V s = (m - 1.f) / (m + 1.f), q = s * s;
    V p = all(1.f / 9);
    p = p * q + 1.f / 7;
    p = p * q + 1.f / 5;
    p = p * q + 1.f / 3;
    p = p * q + 1.f;
    return 2.f * s * p + __builtin_convertvector(power, V) * 0.6931471805599453f;
}

// y[O] = W[O, IN] x[IN] + b, over n (a multiple of 8) positions.
template <int O, int IN>
void forward(const float* w, const float* b, const float (*x)[BLOCK], float (*y)[BLOCK], int n) {
    constexpr int STEP = O % 8 == 0 ? 8 : O % 4 == 0 ? 4 : O;
    for (int p = 0; p < n; p += LANES)
        for (int o = 0; o < O; o += STEP) {
            V acc[STEP];
            for (int k = 0; k < STEP; ++k) acc[k] = all(b ? b[o + k] : 0.f);
            for (int i = 0; i < IN; ++i) {
                const V v = load(&x[i][p]);
#pragma GCC unroll 8
                for (int k = 0; k < STEP; ++k) acc[k] += w[(o + k) * IN + i] * v;
            }
            for (int k = 0; k < STEP; ++k) store(&y[o + k][p], acc[k]);
        }
}

// dx[IN] = W^T g[O].
template <int O, int IN>
void backward(const float* w, const float (*g)[BLOCK], float (*dx)[BLOCK], int n) {
    float turned[IN * O];
    for (int o = 0; o < O; ++o)
        for (int i = 0; i < IN; ++i) turned[i * O + o] = w[o * IN + i];
    forward<IN, O>(turned, nullptr, g, dx, n);
}

template <int O, int IN>
struct Sums {  // of the weights' and biases' gradients
    V w[O][IN] = {}, b[O] = {};
    void add(const float (*g)[BLOCK], const float (*x)[BLOCK], int n) {
        constexpr int S = O % 4 == 0 ? 4 : O, T = IN % 2 == 0 ? 2 : 1;
        for (int o = 0; o < O; o += S)
            for (int i = 0; i < IN; i += T) {
                V acc[S][T] = {};
                for (int p = 0; p < n; p += LANES)
#pragma GCC unroll 2
                    for (int t = 0; t < T; ++t) {
                        const V v = load(&x[i + t][p]);
#pragma GCC unroll 4
                        for (int s = 0; s < S; ++s) acc[s][t] += load(&g[o + s][p]) * v;
                    }
                for (int s = 0; s < S; ++s)
                    for (int t = 0; t < T; ++t) w[o + s][i + t] += acc[s][t];
            }
        bias(g, n);
    }
    void bias(const float (*g)[BLOCK], int n) {
        for (int o = 0; o < O; ++o)
            for (int p = 0; p < n; p += LANES) b[o] += load(&g[o][p]);
    }
    void give(float* dw, float* db) const {
        for (int o = 0; o < O; ++o) {
            for (int i = 0; i < IN; ++i) dw[o * IN + i] += sum(w[o][i]);
            db[o] += sum(b[o]);
        }
    }
};

struct Grid {  // quantised latents with zeros around, and the gradient in them
    int height, width, stride;
    std::vector<float> value, grad, slope;
    Grid(int h, int w)
        : height(h), width(w), stride(w + 2 * EDGE + PAD + BLOCK),
          value(static_cast<size_t>(h + EDGE) * stride + BLOCK), grad(value.size()), slope(static_cast<size_t>(h) * w) {}
    size_t at(int y, int x) const { return static_cast<size_t>(y + EDGE) * stride + x + EDGE; }
};

struct Noise {
    uint32_t state;
    const float* table;  // 4096 draws of the distribution, ascending
    float next() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return table[state >> 20];
    }
};

// Soft rounding, noise, soft rounding; or rounding, whose slope counts as one.
void quantise(const float* y, Grid& grid, float temperature, Noise& noise) {
    const float scale = 0.5f / std::tanh(0.5f / temperature), over = 1 / temperature;
    const auto soft = [&](V x, V& slope) {
        const V cut = __builtin_convertvector(__builtin_convertvector(x, I), V), floor = cut - choose(cut > x, all(1), V{});
        const V e = exponential((x - floor - 0.5f) * (2 * over));
        const V t = 1.f - 2.f / (e + 1.f);
        slope *= scale * over * (1.f - t * t);
        return floor + 0.5f + scale * t;
    };
    for (int r = 0; r < grid.height; ++r)
        for (int c = 0; c < grid.width; c += LANES) {
            const int n = std::min(LANES, grid.width - c);
            float u[LANES] = {}, x[LANES] = {};
            std::memcpy(x, y + static_cast<size_t>(r) * grid.width + c, 4 * n);
            V slope = all(1), v = load(x);
            if (temperature > 0) {
                for (int i = 0; i < n; ++i) u[i] = noise.next();
                v = soft(v, slope);
                v = soft(v + load(u), slope);
            } else {
                v = (v + 12582912.f) - 12582912.f;
            }
            store(x, v);
            float s[LANES];
            store(s, slope);
            std::memcpy(&grid.value[grid.at(r, c)], x, 4 * n);
            std::memcpy(&grid.slope[static_cast<size_t>(r) * grid.width + c], s, 4 * n);
        }
}

// Bits of a grid; adds gradients, times `weight`, to the grid's and to `dw`.
double rate(Grid& grid, int level, const float* w, float weight, float* dw) {
    alignas(32) float x[CONTEXT][BLOCK], h1[HIDDEN][BLOCK], h2[HIDDEN][BLOCK], out[2][BLOCK];
    alignas(32) float g2[HIDDEN][BLOCK], g1[HIDDEN][BLOCK], dx[CONTEXT][BLOCK];
    auto first = std::vector<Sums<HIDDEN, CONTEXT>>(1);
    auto second = std::vector<Sums<HIDDEN, HIDDEN>>(1);
    auto third = std::vector<Sums<2, HIDDEN>>(1);
    double bits = 0;
    for (int r = 0; r < grid.height; ++r)
        for (int c = 0; c < grid.width; c += BLOCK) {
            const int real = std::min(BLOCK, grid.width - c), n = (real + LANES - 1) / LANES * LANES;
            for (int i = 0; i < CONTEXT; ++i)
                std::memcpy(x[i], &grid.value[grid.at(r - DY[i], c + DX[i])], 4 * n);
            forward<HIDDEN, CONTEXT>(w + W1, w + B1 + level * HIDDEN, x, h1, n);
            for (auto& row : h1)
                for (int p = 0; p < n; p += LANES) store(row + p, most(load(row + p), V{}));
            forward<HIDDEN, HIDDEN>(w + W2, w + B2, h1, h2, n);
            for (int o = 0; o < HIDDEN; ++o)
                for (int p = 0; p < n; p += LANES)
                    store(h2[o] + p, most(load(h2[o] + p) + load(h1[o] + p), V{}));
            forward<2, HIDDEN>(w + W3, w + B3, h2, out, n);
            float* gradient = &grid.grad[grid.at(r, c)];
            for (int p = 0; p < n; p += LANES) {
                I place;
                for (int i = 0; i < LANES; ++i) place[i] = p + i;
                const V used = choose(place < real, all(1), V{});
                const V d = load(&grid.value[grid.at(r, c + p)]) - load(out[0] + p), raw = load(out[1] + p);
                const V s = most(least(raw, all(HIGH)), all(LOW)), over = exponential(-s);
                const V a = most(d, -d), near = a - 0.5f, far = (a + 0.5f) * over;
                const V e1 = exponential(-most(near, -near) * over), e2 = exponential(-far);
                const I outside = near > 0.f;
                const V mass = choose(outside, 0.5f * (e1 - e2), 1.f - 0.5f * (e1 + e2)) + 1e-6f;
                bits += sum(-logarithm(mass) * used) * 1.4426950408889634;
                const V k = used * (-1.4426950408889634f * weight) / mass;  // of mass
                const V da = 0.5f * (e2 - e1) * over * k, dd = choose(d < 0.f, -da, da);
                const V ds = 0.5f * (near * over * e1 - far * e2) * k;
                store(gradient + p, load(gradient + p) + dd);
                store(out[0] + p, -dd);
                store(out[1] + p, choose((raw > LOW) & (raw < HIGH), ds, V{}));
            }
            third[0].add(out, h2, n);
            backward<2, HIDDEN>(w + W3, out, g2, n);
            for (int o = 0; o < HIDDEN; ++o)
                for (int p = 0; p < n; p += LANES)
                    store(g2[o] + p, choose(load(h2[o] + p) > 0.f, load(g2[o] + p), V{}));
            second[0].add(g2, h1, n);
            backward<HIDDEN, HIDDEN>(w + W2, g2, g1, n);
            for (int o = 0; o < HIDDEN; ++o)
                for (int p = 0; p < n; p += LANES)
                    store(g1[o] + p, choose(load(h1[o] + p) > 0.f, load(g1[o] + p) + load(g2[o] + p), V{}));
            first[0].add(g1, x, n);
            backward<HIDDEN, CONTEXT>(w + W1, g1, dx, n);
            for (int i = 0; i < CONTEXT; ++i) {
                float* to = &grid.grad[grid.at(r - DY[i], c + DX[i])];
                for (int p = 0; p < n; p += LANES) store(to + p, load(to + p) + load(dx[i] + p));
            }
        }
    first[0].give(dw + W1, dw + B1 + level * HIDDEN);
    second[0].give(dw + W2, dw + B2);
    third[0].give(dw + W3, dw + B3);
    return bits;
}

#include "overfit_picture.h"

}  // namespace

// Latents and their gradient: the grids one after another, finest first. `sides` are (height, width) of each; `target`
// is (3, H, W) from 0 to 1. `parts`: 1 rate, 2 error, 3 both. result: bits, mean squared error.
extern "C" void overfit_loss(const int32_t* sides, const float* latents, const float* weights, const float* target,
                             float lambda, float temperature, const float* noise, uint32_t seed, int32_t parts,
                             float* latents_grad, float* weights_grad, double* result) {
    static thread_local std::unique_ptr<Work> kept;
    if (!kept || !std::equal(kept->sides.begin(), kept->sides.end(), sides)) kept = std::make_unique<Work>(sides);
    Work& work = *kept;
    std::fill(weights_grad, weights_grad + WEIGHTS, 0.f);
    const float weight = lambda / (static_cast<float>(sides[0]) * sides[1]);
    Noise draw{seed * 2654435761u | 1u, noise};
    for (int i = 0; i < 8; ++i) draw.next();
    const float* y = latents;
    result[0] = result[1] = 0;
    for (int k = 0; k < LEVELS; ++k) {
        Grid& grid = work.grids[k];
        quantise(y, grid, temperature, draw);
        y += grid.slope.size();
        if (parts & 1) {
            std::fill(grid.grad.begin(), grid.grad.end(), 0.f);
            result[0] += rate(grid, k, weights, weight, weights_grad);
        }
    }
    if (parts & 2) result[1] = picture(work, weights, target, weights_grad);
    float* out = latents_grad;
    for (int k = 0; k < LEVELS; ++k) {
        const Grid& grid = work.grids[k];
        for (int r = 0; r < grid.height; ++r) {
            const size_t i = static_cast<size_t>(r) * grid.width;
            const float *slope = &grid.slope[i], *own = &grid.grad[grid.at(r, 0)], *seen = &work.stacks[k][0][i];
            for (int c = 0; c < grid.width; ++c)
                out[i + c] = slope[c] * ((parts & 1 ? own[c] : 0.f) + (parts & 2 ? seen[c] : 0.f));
        }
        out += grid.slope.size();
    }
}
