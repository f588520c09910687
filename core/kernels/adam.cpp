// One pass over all parameters: clipped gradient, Adam's moments, the step, and the average of the weights.
//
// The arithmetic is torch.optim.Adam's, in its order: each tensor is read and written once instead of a dozen times.

#include <cmath>
#include <cstdint>

extern "C" double squares(int64_t tensors, const float* const* grads, const int64_t* sizes) {
    constexpr int LANES = 16;
    constexpr int64_t PART = 4096;  // numbers that are summed in float32, in lanes, before they go into the total
    double total = 0;
    for (int64_t t = 0; t < tensors; ++t) {
        const float* g = grads[t];
        for (int64_t first = 0; first < sizes[t]; first += PART) {
            const int64_t last = first + PART < sizes[t] ? first + PART : sizes[t];
            float lanes[LANES] = {};
            int64_t i = first;
            for (; i + LANES <= last; i += LANES)
                for (int lane = 0; lane < LANES; ++lane) lanes[lane] += g[i + lane] * g[i + lane];
            for (; i < last; ++i) lanes[0] += g[i] * g[i];
            for (float lane : lanes) total += lane;
        }
    }
    return total;
}

extern "C" void scale(int64_t tensors, float* const* grads, const int64_t* sizes, float factor) {
    for (int64_t t = 0; t < tensors; ++t)
        for (int64_t i = 0; i < sizes[t]; ++i) grads[t][i] *= factor;
}

namespace {

// torch.lerp: exact at both ends
inline float between(float a, float b, float weight) {
    return weight < 0.5f ? a + weight * (b - a) : b - (b - a) * (1 - weight);
}

}  // namespace

// rates[t] = lr / (1 - beta1^n), roots[t] = sqrt(1 - beta2^n) of a tensor at its step n; a tensor without gradient
// (null) is only averaged.
extern "C" void adam(int64_t tensors, const int64_t* sizes, float* const* weights, const float* const* grads,
                     float* const* firsts, float* const* seconds, float* const* averages, const float* rates,
                     const float* roots, float beta1, float beta2, float eps, float follow) {
    const float keep1 = 1 - beta1, keep2 = 1 - beta2;
    for (int64_t t = 0; t < tensors; ++t) {
        float *__restrict__ w = weights[t], *__restrict__ m = firsts[t], *__restrict__ v = seconds[t];
        float* __restrict__ mean = averages[t];
        const float* __restrict__ g = grads[t];
        const float rate = rates[t], root = roots[t];
        if (g == nullptr) {
            for (int64_t i = 0; i < sizes[t]; ++i) mean[i] = between(mean[i], w[i], follow);
            continue;
        }
        for (int64_t i = 0; i < sizes[t]; ++i) {
            m[i] = between(m[i], g[i], keep1);
            v[i] = v[i] * beta2 + keep2 * g[i] * g[i];
            w[i] -= rate * m[i] / (std::sqrt(v[i]) / root + eps);
            mean[i] = between(mean[i], w[i], follow);
        }
    }
}
