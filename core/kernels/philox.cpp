// Philox4x32-10 (Salmon et al., SC 2011) for many sequences at once, and what rec.randomness makes of its words.
//
// A sequence has a block and a path; counter g of it is (g, block, low word of the path, high word), under one key.
// Everything but the table of levels is integer arithmetic, so the results are those of rec.randomness to the last bit.

#include <cstdint>

namespace {

constexpr int LANES = 8;  // counters worked on at once
constexpr int ROUNDS = 10;
constexpr uint32_t MULTIPLIERS[2] = {0xD2511F53u, 0xCD9E8D57u};
constexpr uint32_t WEYL[2] = {0x9E3779B9u, 0xBB67AE85u};

struct Words {
    uint32_t c[4][LANES];
};

inline void rounds(Words& w, uint32_t k0, uint32_t k1) {
    for (int r = 0; r < ROUNDS; ++r) {
        for (int i = 0; i < LANES; ++i) {
            const uint64_t p0 = static_cast<uint64_t>(w.c[0][i]) * MULTIPLIERS[0];
            const uint64_t p1 = static_cast<uint64_t>(w.c[2][i]) * MULTIPLIERS[1];
            const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ w.c[1][i] ^ k0;
            const uint32_t c2 = static_cast<uint32_t>(p0 >> 32) ^ w.c[3][i] ^ k1;
            w.c[1][i] = static_cast<uint32_t>(p1);
            w.c[3][i] = static_cast<uint32_t>(p0);
            w.c[0][i] = c0;
            w.c[2][i] = c2;
        }
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
}

inline void made(Words& w, int64_t group, uint64_t block, uint64_t path, uint32_t k0, uint32_t k1) {
    for (int i = 0; i < LANES; ++i) {
        w.c[0][i] = static_cast<uint32_t>(group + i);
        w.c[1][i] = static_cast<uint32_t>(block);
        w.c[2][i] = static_cast<uint32_t>(path);
        w.c[3][i] = static_cast<uint32_t>(path >> 32);
    }
    rounds(w, k0, k1);
}

}  // namespace

// out (rows, count): the level in a table of 2^16 that each half of a word names, the low half first.
extern "C" void philox_levels(const uint64_t* blocks, const uint64_t* paths, int64_t rows, int64_t count, uint32_t k0,
                              uint32_t k1, const float* table, float* out) {
    Words w;
    for (int64_t row = 0; row < rows; ++row, out += count)
        for (int64_t first = 0; first < count; first += 8 * LANES) {
            made(w, first / 8, blocks[row], paths[row], k0, k1);
            float levels[8 * LANES];
            for (int i = 0; i < LANES; ++i)
                for (int j = 0; j < 4; ++j) {
                    levels[8 * i + 2 * j] = table[w.c[j][i] & 0xFFFFu];
                    levels[8 * i + 2 * j + 1] = table[w.c[j][i] >> 16];
                }
            const int64_t here = count - first < 8 * LANES ? count - first : 8 * LANES;
            for (int64_t i = 0; i < here; ++i) out[first + i] = levels[i];
        }
}

// out (rows, count): +1 where a bit is set and -1 where not, the lowest bit of a word first.
extern "C" void philox_signs(const uint64_t* blocks, const uint64_t* paths, int64_t rows, int64_t count, uint32_t k0,
                             uint32_t k1, float* out) {
    Words w;
    for (int64_t row = 0; row < rows; ++row, out += count)
        for (int64_t first = 0; first < count; first += 128 * LANES) {
            made(w, first / 128, blocks[row], paths[row], k0, k1);
            for (int i = 0; i < LANES; ++i)
                for (int j = 0; j < 4; ++j) {
                    const int64_t place = first + 128 * i + 32 * j, left = count - place;
                    const int here = left < 32 ? (left < 0 ? 0 : static_cast<int>(left)) : 32;
                    for (int b = 0; b < here; ++b)
                        out[place + b] = static_cast<float>(static_cast<int>(w.c[j][i] >> b & 1u) * 2 - 1);
                }
        }
}
