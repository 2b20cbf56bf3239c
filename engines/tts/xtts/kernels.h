// What both kernels share: numbers a CPU holds sixteen of at a time, and a row of activations against packed weights.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace xtts {

constexpr int kLanes = 16;

using Float = __m512;

inline Float all(float x) { return _mm512_set1_ps(x); }

// e^x to about 2 units in the last place: 2^n times a polynomial over [-ln 2 / 2, ln 2 / 2].
inline Float exponential(Float x) {
  x = _mm512_max_ps(_mm512_min_ps(x, all(88.0f)), all(-87.0f));
  const Float n = _mm512_roundscale_ps(_mm512_mul_ps(x, all(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  Float r = _mm512_fnmadd_ps(n, all(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, all(-2.12194440e-4f), r);
  Float y = all(1.9875691500e-4f);
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = _mm512_fmadd_ps(y, r, all(c));
  y = _mm512_fmadd_ps(y, _mm512_mul_ps(r, r), _mm512_add_ps(r, all(1.0f)));
  return _mm512_scalef_ps(y, n);
}

inline Float leaky(Float x, Float slope) { return _mm512_max_ps(x, _mm512_mul_ps(x, slope)); }

}  // namespace xtts
