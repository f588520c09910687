// Gradient of a depthwise convolution's weights and bias, channels last, products and sums in float32.
//
// weight_grad[c, i, j] = sum over n, y, x of grad[n, y, x, c] * input[n, y + i - k/2, x + j - k/2, c]
//
// Sixteen channels at a time: the zero-padded input and the gradient of an image are widened to float32 once (they stay
// in the second-level cache), then several rows of taps are summed in registers in one pass over the image.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 16;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

inline Vector widened(const uint16_t* source) {  // bfloat16 is the upper half of a float
    Halves halves;
    std::memcpy(&halves, source, sizeof halves);
    Words words = __builtin_convertvector(halves, Words) << 16;
    Vector values;
    std::memcpy(&values, &words, sizeof values);
    return values;
}

inline Vector widened(const float* source) {
    Vector values;
    std::memcpy(&values, source, sizeof values);
    return values;
}

template <int K, int ROWS>
void taps(const Vector* input, const Vector* grad, int height, int width, int first, Vector* total) {
    const int stride = width + K - 1;
    Vector sum[ROWS][K] = {};
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const Vector g = grad[y * width + x];
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
                for (int j = 0; j < K; ++j) sum[i][j] += g * input[(y + first + i) * stride + x + j];
        }
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < K; ++j) total[(first + i) * K + j] += sum[i][j];
}

template <int K>
void all_taps(const Vector* input, const Vector* grad, int height, int width, Vector* total) {
    if constexpr (K <= 5) {
        taps<K, K>(input, grad, height, width, 0, total);
    } else {
        taps<K, 4>(input, grad, height, width, 0, total);
        taps<K, K - 4>(input, grad, height, width, 4, total);
    }
}

template <int K, typename T>
void gradient(const T* input, const T* grad, int64_t images, int height, int width, int channels, float* weight,
              float* bias) {
    const int side = width + K - 1;
    std::vector<Vector> padded(static_cast<size_t>(height + K - 1) * side), wide(static_cast<size_t>(height) * width);
    for (int c = 0; c < channels; c += LANES) {
        Vector total[K * K] = {}, sum = {};
        for (int64_t n = 0; n < images; ++n) {
            for (int y = 0; y < height; ++y)
                for (int x = 0; x < width; ++x) {
                    const int64_t at = ((n * height + y) * width + x) * channels + c;
                    padded[(y + K / 2) * side + x + K / 2] = widened(input + at);
                    sum += wide[y * width + x] = widened(grad + at);
                }
            all_taps<K>(padded.data(), wide.data(), height, width, total);
        }
        for (int lane = 0; lane < LANES; ++lane) {
            bias[c + lane] = sum[lane];
            for (int tap = 0; tap < K * K; ++tap) weight[(c + lane) * K * K + tap] = total[tap][lane];
        }
    }
}

template <typename T>
int dispatch(const T* input, const T* grad, int64_t images, int height, int width, int channels, int kernel,
             float* weight, float* bias) {
    if (channels % LANES) return 1;
    switch (kernel) {
        case 3: gradient<3>(input, grad, images, height, width, channels, weight, bias); return 0;
        case 5: gradient<5>(input, grad, images, height, width, channels, weight, bias); return 0;
        case 7: gradient<7>(input, grad, images, height, width, channels, weight, bias); return 0;
    }
    return 1;
}

}  // namespace

extern "C" int depthwise_gradient_float(const float* input, const float* grad, int64_t images, int height, int width,
                                        int channels, int kernel, float* weight, float* bias) {
    return dispatch(input, grad, images, height, width, channels, kernel, weight, bias);
}

extern "C" int depthwise_gradient_bfloat16(const uint16_t* input, const uint16_t* grad, int64_t images, int height,
                                           int width, int channels, int kernel, float* weight, float* bias) {
    return dispatch(input, grad, images, height, width, channels, kernel, weight, bias);
}
