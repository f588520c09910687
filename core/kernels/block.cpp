// The pointwise parts of a ConvNeXt block between its matrix products, forward and backward, bfloat16 in and out.
//
// Rows are pixels, columns channels (a multiple of 16). Everything is computed in float32; sums over pixels, too.

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

template <typename To, typename From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline Vector load(const uint16_t* source) {  // bfloat16 is the upper half of a float
    Halves halves;
    std::memcpy(&halves, source, sizeof halves);
    return bits<Vector>(__builtin_convertvector(halves, Words) << 16);
}

inline Vector load(const float* source) {
    Vector values;
    std::memcpy(&values, source, sizeof values);
    return values;
}

inline void store(float* target, Vector values) { std::memcpy(target, &values, sizeof values); }

inline void store(uint16_t* target, Vector values) {  // rounded to the nearest, ties to even; NaN stays NaN
#ifdef __AVX512BF16__
    const __m256bh halves = _mm512_cvtneps_pbh(bits<__m512>(values));
#else
    const Words words = bits<Words>(values);
    const Words rounded = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
    const Words chosen = values == values ? rounded : rounded * 0 + 0x7fc0;
    const Halves halves = __builtin_convertvector(chosen, Halves);
#endif
    std::memcpy(target, &halves, sizeof halves);
}

inline float total(Vector values) {
    float part[LANES];
    std::memcpy(part, &values, sizeof part);
#pragma GCC unroll 4
    for (int half = LANES / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int lane = 0; lane < half; ++lane) part[lane] += part[lane + half];
    return part[0];
}

inline Vector exponential(Vector x) {  // e^x for x <= 0, to about 2e-7 of it; 0 below e^-87
    const auto far = x < -87.f;
    x = far ? Vector{} : x;
    const Vector shifted = x * 1.44269504f + 12582912.f;  // the nearest integer to x / ln 2, in the low bits
    const Vector whole = shifted - 12582912.f;
    const Vector r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector y = r * 1.3981999507e-3f + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.f;
    const Integers power = (bits<Integers>(shifted) - bits<int32_t>(12582912.f)) << 23;
    return far ? Vector{} : bits<Vector>(bits<Integers>(y) + power);
}

// The normal distribution's function and density (times x) at x: Abramowitz and Stegun 7.1.26, to 1e-7.
struct Normal {
    Vector below, slope;
};

inline Normal normal(Vector x) {
    const Vector size = x < 0 ? -x : x;
    const Vector e = exponential(size * size * -0.5f);
    const Vector t = 1.f / (1.f + size * (0.3275911f * 0.70710678f));
    Vector p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const Vector tail = p * t * e * 0.5f;
    return {x < 0 ? tail : 1.f - tail, x * e * 0.39894228f};
}

// g = GELU(h) and its derivative there, of 16 numbers
template <typename T>
inline void gelu_part(const T* h, uint16_t* g, uint16_t* slope) {
    const Vector x = load(h);
    const Normal n = normal(x);
    store(g, x * n.below);
    store(slope, n.below + n.slope);
}

template <typename T>
void gelu_all(const T* h, int64_t count, uint16_t* g, uint16_t* slope) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) gelu_part(h + i, g + i, slope + i);
    if (i == count) return;
    T last[LANES] = {};
    uint16_t last_g[LANES], last_slope[LANES];
    std::memcpy(last, h + i, sizeof(T) * (count - i));
    gelu_part(last, last_g, last_slope);
    std::memcpy(g + i, last_g, sizeof(uint16_t) * (count - i));
    std::memcpy(slope + i, last_slope, sizeof(uint16_t) * (count - i));
}

template <typename T>
void product_all(const uint16_t* a, const uint16_t* b, int64_t count, T* out) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(out + i, load(a + i) * load(b + i));
    if (i == count) return;
    uint16_t last_a[LANES] = {}, last_b[LANES] = {};
    T last[LANES];
    std::memcpy(last_a, a + i, sizeof(uint16_t) * (count - i));
    std::memcpy(last_b, b + i, sizeof(uint16_t) * (count - i));
    store(last, load(last_a) * load(last_b));
    std::memcpy(out + i, last, sizeof(T) * (count - i));
}

}  // namespace

// g = GELU(h) and its derivative, of any count of numbers; slope may be h
extern "C" void gelu_bfloat16(const uint16_t* h, int64_t count, uint16_t* g, uint16_t* slope) {
    gelu_all(h, count, g, slope);
}

extern "C" void gelu_float(const float* h, int64_t count, uint16_t* g, uint16_t* slope) {
    gelu_all(h, count, g, slope);
}

extern "C" void product_bfloat16(const uint16_t* a, const uint16_t* b, int64_t count, uint16_t* out) {
    product_all(a, b, count, out);
}

extern "C" void product_float(const uint16_t* a, const uint16_t* b, int64_t count, float* out) {
    product_all(a, b, count, out);
}

// The product of two matrices, number by number, and its sum over rows; out may be either
extern "C" void product_and_sums(const uint16_t* a, const uint16_t* b, int64_t rows, int columns, uint16_t* out,
                                 float* sums) {
    std::memset(sums, 0, sizeof(float) * columns);
    for (int64_t row = 0; row < rows; ++row)
        for (int c = 0; c < columns; c += LANES) {
            const Vector x = load(a + row * columns + c) * load(b + row * columns + c);
            store(out + row * columns + c, x);
            store(sums + c, load(sums + c) + x);
        }
}

// u = (y - mean) / deviation * scale + shift, with scale and shift (images, columns) of the row's image
extern "C" void normalise(const uint16_t* y, const float* scale, const float* shift, int64_t images, int64_t pixels,
                          int columns, float eps, uint16_t* u, float* means, float* inverses) {
    for (int64_t row = 0; row < images * pixels; ++row) {
        const uint16_t* from = y + row * columns;
        const int64_t image = row / pixels * columns;
        Vector sum = {}, squares = {};
        for (int c = 0; c < columns; c += LANES) sum += load(from + c);
        const float mean = total(sum) / columns;
        for (int c = 0; c < columns; c += LANES) {
            const Vector d = load(from + c) - mean;
            squares += d * d;
        }
        const float inverse = 1 / std::sqrt(total(squares) / columns + eps);
        for (int c = 0; c < columns; c += LANES)
            store(u + row * columns + c,
                  (load(from + c) - mean) * inverse * load(scale + image + c) + load(shift + image + c));
        means[row] = mean;
        inverses[row] = inverse;
    }
}

// Gradients of y, and of scale and shift, from that of u
extern "C" void normalise_backward(const uint16_t* y, const uint16_t* grad, const float* scale, const float* means,
                                   const float* inverses, int64_t images, int64_t pixels, int columns, uint16_t* own,
                                   float* scales, float* shifts) {
    std::memset(scales, 0, sizeof(float) * images * columns);
    std::memset(shifts, 0, sizeof(float) * images * columns);
    for (int64_t row = 0; row < images * pixels; ++row) {
        const int64_t first = row * columns, image = row / pixels * columns;
        const float mean = means[row], inverse = inverses[row];
        Vector sum = {}, product = {};
        for (int c = 0; c < columns; c += LANES) {
            const Vector x = (load(y + first + c) - mean) * inverse, d = load(grad + first + c);
            const Vector g = d * load(scale + image + c);
            sum += g;
            product += g * x;
            store(scales + image + c, load(scales + image + c) + d * x);
            store(shifts + image + c, load(shifts + image + c) + d);
        }
        const float m = total(sum) / columns, p = total(product) / columns;
        for (int c = 0; c < columns; c += LANES) {
            const Vector x = (load(y + first + c) - mean) * inverse;
            const Vector g = load(grad + first + c) * load(scale + image + c);
            store(own + first + c, (g - m - x * p) * inverse);
        }
    }
}

// A float32 matrix as bfloat16, and its sum over rows
extern "C" void narrowed(const float* from, int64_t rows, int columns, uint16_t* to, float* sums) {
    std::memset(sums, 0, sizeof(float) * columns);
    for (int64_t row = 0; row < rows; ++row)
        for (int c = 0; c < columns; c += LANES) {
            const Vector x = load(from + row * columns + c);
            store(to + row * columns + c, x);
            store(sums + c, load(sums + c) + x);
        }
}

// a + b + bias, float32
extern "C" void added(const float* a, const uint16_t* b, const float* bias, int64_t rows, int columns, float* out) {
    for (int64_t row = 0; row < rows; ++row)
        for (int c = 0; c < columns; c += LANES)
            store(out + row * columns + c,
                  load(a + row * columns + c) + load(b + row * columns + c) + load(bias + c));
}

// A matrix with its rows scaled, as bfloat16
extern "C" void rows_scaled(const float* from, const float* scale, int64_t rows, int columns, uint16_t* to) {
    for (int64_t row = 0; row < rows; ++row)
        for (int c = 0; c < columns; c += LANES)
            store(to + row * columns + c, load(from + row * columns + c) * scale[row]);
}

// From the gradient of that matrix: those of the matrix and of the scale
extern "C" void rows_scaled_backward(const float* from, const float* scale, const uint16_t* grad, int64_t rows,
                                     int columns, float* own, float* scales) {
    for (int64_t row = 0; row < rows; ++row) {
        Vector sum = {};
        for (int c = 0; c < columns; c += LANES) {
            const int64_t i = row * columns + c;
            const Vector d = load(grad + i);
            sum += d * load(from + i);
            store(own + i, d * scale[row]);
        }
        scales[row] = total(sum);
    }
}
