// The picture made of grids of latents, and the gradient of its squared error: upsampling and synthesis.
// Part of overfit_train.cpp.

using Plane = std::vector<float>;

constexpr float TAPS[4] = {-3 / 128.f, 29 / 128.f, 111 / 128.f, -9 / 128.f};  // of an even sample; turned round for an odd

// Twice as many samples of a row, cut to `out`: sample 2 i lies a quarter before sample i. `row` has 2 more on each side.
void widen(const float* row, float* to, int out) {
    for (int i = 0; 2 * i + 1 < out; ++i) {
        to[2 * i] = TAPS[0] * row[i - 2] + TAPS[1] * row[i - 1] + TAPS[2] * row[i] + TAPS[3] * row[i + 1];
        to[2 * i + 1] = TAPS[3] * row[i - 1] + TAPS[2] * row[i] + TAPS[1] * row[i + 1] + TAPS[0] * row[i + 2];
    }
    if (out % 2) {
        const int i = out / 2;
        to[2 * i] = TAPS[0] * row[i - 2] + TAPS[1] * row[i - 1] + TAPS[2] * row[i] + TAPS[3] * row[i + 1];
    }
}

// The transpose of `widen` without its edges: `g` has zeros around, as many as are read.
void narrow(const float* g, float* row, int count) {
    for (int i = 0; i < count; ++i) {
        const float* c = g + 2 * i;
        row[i] = TAPS[0] * (c[4] + c[-3]) + TAPS[1] * (c[2] + c[-1]) + TAPS[2] * (c[0] + c[1]) + TAPS[3] * (c[-2] + c[3]);
    }
}

// Rows of the smaller image that row y of the larger one is made of, and their shares.
void sources(int y, int height, int* rows, float* shares) {
    const int i = y / 2;
    for (int k = 0; k < 4; ++k) {
        rows[k] = std::clamp(y % 2 ? i - 1 + k : i - 2 + k, 0, height - 1);
        shares[k] = y % 2 ? TAPS[3 - k] : TAPS[k];
    }
}

// A plane h x w to H x W.
void upsample(const float* from, int h, int w, float* to, int H, int W) {
    std::vector<float> wide(static_cast<size_t>(h) * W), row(w + 4);
    for (int y = 0; y < h; ++y) {
        const float* line = from + static_cast<size_t>(y) * w;
        std::copy(line, line + w, row.begin() + 2);
        row[0] = row[1] = line[0];
        row[w + 2] = row[w + 3] = line[w - 1];
        widen(row.data() + 2, &wide[static_cast<size_t>(y) * W], W);
    }
    for (int y = 0; y < H; ++y) {
        int rows[4];
        float shares[4];
        sources(y, h, rows, shares);
        const float *a = &wide[static_cast<size_t>(rows[0]) * W], *b = &wide[static_cast<size_t>(rows[1]) * W],
                    *c = &wide[static_cast<size_t>(rows[2]) * W], *d = &wide[static_cast<size_t>(rows[3]) * W];
        float* line = to + static_cast<size_t>(y) * W;
        for (int x = 0; x < W; ++x) line[x] = shares[0] * a[x] + shares[1] * b[x] + shares[2] * c[x] + shares[3] * d[x];
    }
}

// Its transpose: the gradient in the smaller plane.
void downsample(const float* g, int H, int W, float* to, int h, int w) {
    constexpr int AROUND = 8;  // zeros, and what falls on repeated samples
    std::vector<float> wide(static_cast<size_t>(h) * W, 0.f), row(W + 2 * AROUND + 8, 0.f), sums(w + 4);
    for (int y = 0; y < H; ++y) {
        int rows[4];
        float shares[4];
        sources(y, h, rows, shares);
        const float* line = g + static_cast<size_t>(y) * W;
        for (int k = 0; k < 4; ++k) {
            float* sum = &wide[static_cast<size_t>(rows[k]) * W];
            for (int x = 0; x < W; ++x) sum[x] += shares[k] * line[x];
        }
    }
    for (int y = 0; y < h; ++y) {
        std::copy(&wide[static_cast<size_t>(y) * W], &wide[static_cast<size_t>(y) * W] + W, row.begin() + AROUND);
        narrow(row.data() + AROUND - 4, sums.data(), w + 4);  // from two samples before the first
        float* line = to + static_cast<size_t>(y) * w;
        std::copy(sums.begin() + 2, sums.begin() + 2 + w, line);
        line[0] += sums[0] + sums[1];
        line[w - 1] += sums[w + 2] + sums[w + 3];
    }
}

struct Padded {  // three planes with their edges repeated by one sample
    int height, width, stride;
    Plane values;
    Padded(int h, int w) : height(h), width(w), stride(w + 2), values(3 * static_cast<size_t>(h + 2) * (w + 2)) {}
    float* row(int c, int y) { return &values[(static_cast<size_t>(c) * (height + 2) + y + 1) * stride + 1]; }
    void repeat() {
        for (int c = 0; c < 3; ++c) {
            for (int y = 0; y < height; ++y) {
                row(c, y)[-1] = row(c, y)[0];
                row(c, y)[width] = row(c, y)[width - 1];
            }
            std::copy(row(c, 0) - 1, row(c, 0) + width + 1, row(c, -1) - 1);
            std::copy(row(c, height - 1) - 1, row(c, height - 1) + width + 1, row(c, height) - 1);
        }
    }
    void clear() { std::fill(values.begin(), values.end(), 0.f); }
    void fold() {  // the transpose of repeat
        for (int c = 0; c < 3; ++c) {
            for (int x = -1; x <= width; ++x) {
                row(c, 0)[x] += row(c, -1)[x];
                row(c, height - 1)[x] += row(c, height)[x];
            }
            for (int y = 0; y < height; ++y) {
                row(c, y)[0] += row(c, y)[-1];
                row(c, y)[width - 1] += row(c, y)[width];
            }
        }
    }
};

// One row of out = in + conv(in) + bias; k is (out, in, 3, 3).
void convolve(Padded& in, const float* k, const float* bias, int y, float* const out[3]) {
    for (int o = 0; o < 3; ++o) {
        const float* self = in.row(o, y);
        float* to = out[o];
        for (int x = 0; x < in.width; ++x) to[x] = self[x] + bias[o];
        for (int c = 0; c < 3; ++c)
            for (int r = 0; r < 3; ++r) {
                const float* from = in.row(c, y + r - 1);
                const float* w = k + (o * 3 + c) * 9 + r * 3;
                const float a = w[0], b = w[1], d = w[2];
                for (int x = 0; x < in.width; ++x) to[x] += a * from[x - 1] + b * from[x] + d * from[x + 1];
            }
    }
}

// Gradients of one row of `convolve`: in the input (added) and in the weights.
void convolve_back(Padded& in, const float* k, int y, const float* const g[3], Padded& din, float* dk, float* dbias) {
    const int width = in.width;
    for (int o = 0; o < 3; ++o) {
        float* self = din.row(o, y);
        for (int x = 0; x < width; ++x) self[x] += g[o][x];
        float total = 0;
        for (int x = 0; x < width; ++x) total += g[o][x];
        dbias[o] += total;
    }
    for (int c = 0; c < 3; ++c)
        for (int r = 0; r < 3; ++r) {
            const float* from = in.row(c, y + r - 1);
            float* to = din.row(c, y + r - 1);
            for (int o = 0; o < 3; ++o) {
                const float* w = k + (o * 3 + c) * 9 + r * 3;
                for (int t = 0; t < 3; ++t) {
                    const float a = w[t];
                    float* shifted = to + t - 1;
                    for (int x = 0; x < width; ++x) shifted[x] += a * g[o][x];
                }
                V sums[3] = {};
                int x = 0;
                for (; x + LANES <= width; x += LANES) {
                    const V v = load(g[o] + x);
                    for (int t = 0; t < 3; ++t) sums[t] += v * load(from + x + t - 1);
                }
                float* d = dk + (o * 3 + c) * 9 + r * 3;
                for (int t = 0; t < 3; ++t) {
                    float rest = 0;
                    for (int z = x; z < width; ++z) rest += g[o][z] * from[z + t - 1];
                    d[t] += sum(sums[t]) + rest;
                }
            }
        }
}

struct Work {  // memory of one picture size, kept from call to call
    std::vector<int32_t> sides;
    std::vector<Grid> grids;
    std::vector<std::vector<Plane>> stacks;  // of each level: its grid, then all coarser ones upsampled to it
    Padded a, b, da, db;
    Plane flat, error;
    explicit Work(const int32_t* s)
        : sides(s, s + 2 * LEVELS), stacks(LEVELS), a(s[0], s[1]), b(s[0], s[1]), da(s[0], s[1]), db(s[0], s[1]),
          flat(3 * (static_cast<size_t>(s[0]) * s[1] + BLOCK)), error(3 * static_cast<size_t>(s[1])) {
        for (int k = 0; k < LEVELS; ++k) {
            grids.emplace_back(s[2 * k], s[2 * k + 1]);
            stacks[k].assign(LEVELS - k, Plane(static_cast<size_t>(s[2 * k]) * s[2 * k + 1] + BLOCK));
        }
    }
};

// Mean squared error of the picture; gradients go to `dw` (added) and to the first plane of each stack.
double picture(Work& work, const float* w, const float* target, float* dw) {
    auto& grids = work.grids;
    auto& stacks = work.stacks;
    Padded &a = work.a, &b = work.b, &da = work.da, &db = work.db;
    Plane &flat = work.flat, &error = work.error;
    da.clear();
    db.clear();
    for (int k = LEVELS - 1; k >= 0; --k) {
        const Grid& grid = grids[k];
        for (int r = 0; r < grid.height; ++r)
            std::copy_n(&grid.value[grid.at(r, 0)], grid.width, &stacks[k][0][static_cast<size_t>(r) * grid.width]);
        for (int j = k + 1; j < LEVELS; ++j)
            upsample(stacks[k + 1][j - k - 1].data(), grids[k + 1].height, grids[k + 1].width,
                     stacks[k][j - k].data(), grid.height, grid.width);
    }
    const int height = grids[0].height, width = grids[0].width;
    const size_t pixels = static_cast<size_t>(height) * width;
    alignas(32) float x[LEVELS][BLOCK], h[WIDE][BLOCK], out[3][BLOCK], gh[WIDE][BLOCK], dx[LEVELS][BLOCK];
    const auto hidden = [&](size_t start, int n) {
        for (int i = 0; i < LEVELS; ++i) std::memcpy(x[i], &stacks[0][i][start], 4 * n);
        forward<WIDE, LEVELS>(w + V1, w + C1, x, h, n);
        for (auto& row : h)
            for (int p = 0; p < n; p += LANES) store(row + p, most(load(row + p), V{}));
    };
    for (size_t start = 0; start < pixels; start += BLOCK) {
        hidden(start, BLOCK);
        forward<3, WIDE>(w + V2, w + C2, h, out, BLOCK);
        for (int o = 0; o < 3; ++o) std::memcpy(&flat[o * (pixels + BLOCK) + start], out[o], sizeof out[o]);
    }
    for (int o = 0; o < 3; ++o)
        for (int y = 0; y < height; ++y)
            std::copy_n(&flat[o * (pixels + BLOCK) + static_cast<size_t>(y) * width], width, a.row(o, y));
    a.repeat();
    for (int y = 0; y < height; ++y) {
        float* const rows[3] = {b.row(0, y), b.row(1, y), b.row(2, y)};
        convolve(a, w + K1, w + E1, y, rows);
        for (float* row : rows)
            for (int z = 0; z < width; ++z) row[z] = row[z] > 0 ? row[z] : 0;
    }
    b.repeat();
    double squares = 0;
    const float scale = 2.f / (3.f * static_cast<float>(pixels));
    float* const rows[3] = {&error[0], &error[width], &error[2 * static_cast<size_t>(width)]};
    for (int y = 0; y < height; ++y) {
        convolve(b, w + K2, w + E2, y, rows);
        for (int o = 0; o < 3; ++o) {
            const float* wanted = target + o * pixels + static_cast<size_t>(y) * width;
            float total = 0;
            for (int z = 0; z < width; ++z) {
                const float d = rows[o][z] - wanted[z];
                total += d * d;
                rows[o][z] = d * scale;
            }
            squares += total;
        }
        convolve_back(b, w + K2, y, rows, db, dw + K2, dw + E2);
    }
    db.fold();
    for (int y = 0; y < height; ++y) {
        for (int o = 0; o < 3; ++o)
            for (int z = 0; z < width; ++z) db.row(o, y)[z] = b.row(o, y)[z] > 0 ? db.row(o, y)[z] : 0.f;
        const float* const g[3] = {db.row(0, y), db.row(1, y), db.row(2, y)};
        convolve_back(a, w + K1, y, g, da, dw + K1, dw + E1);
    }
    da.fold();
    std::fill(flat.begin(), flat.end(), 0.f);
    for (int o = 0; o < 3; ++o)
        for (int y = 0; y < height; ++y)
            std::copy_n(da.row(o, y), width, &flat[o * (pixels + BLOCK) + static_cast<size_t>(y) * width]);
    auto first = std::vector<Sums<WIDE, LEVELS>>(1);
    auto second = std::vector<Sums<3, WIDE>>(1);
    for (size_t start = 0; start < pixels; start += BLOCK) {
        hidden(start, BLOCK);
        for (int o = 0; o < 3; ++o) std::memcpy(out[o], &flat[o * (pixels + BLOCK) + start], sizeof out[o]);
        second[0].add(out, h, BLOCK);
        backward<3, WIDE>(w + V2, out, gh, BLOCK);
        for (int o = 0; o < WIDE; ++o)
            for (int p = 0; p < BLOCK; p += LANES)
                store(gh[o] + p, choose(load(h[o] + p) > 0.f, load(gh[o] + p), V{}));
        first[0].add(gh, x, BLOCK);
        backward<WIDE, LEVELS>(w + V1, gh, dx, BLOCK);
        for (int i = 0; i < LEVELS; ++i) std::memcpy(&stacks[0][i][start], dx[i], sizeof dx[i]);
    }
    first[0].give(dw + V1, dw + C1);
    second[0].give(dw + V2, dw + C2);
    for (int k = 0; k + 1 < LEVELS; ++k)
        for (int j = k + 1; j < LEVELS; ++j)
            downsample(stacks[k][j - k].data(), grids[k].height, grids[k].width, stacks[k + 1][j - k - 1].data(),
                       grids[k + 1].height, grids[k + 1].width);
    return squares / (3.0 * static_cast<double>(pixels));
}
