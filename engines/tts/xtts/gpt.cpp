// One pass of the GPT's transformer for any mixture of streams and positions, from embeddings to logits.
//
// A row is one position of one stream. All keys and values of a layer are written before any row attends, so that a
// prompt is the same as a step: its rows only share a stream. Threads meet at barriers within one parallel region;
// nothing is allocated.
//
// Weights are packed in blocks of 48 outputs, which are read from memory once, in order. int8: per output one scale,
// activations quantised per row as they come; the cache is float16. float32: nothing is rounded.
#include <omp.h>

#include "kernels.h"

namespace xtts {

constexpr int kBlock = 48;
constexpr int kVectors = kBlock / kLanes;
constexpr int kMostRows = 8;  // 8 rows of 3 vectors, 3 of weights and one of activations: of 32 registers.

struct Linear {
  const void* weights;     // int8: [out / 48][in / 4][48][4]; float32: [out / 48][in][48]
  const float* scales;     // int8 only, per output
  const int32_t* offsets;  // int8 only, 128 times the sum of an output's weights
  const float* bias;       // per output, padded to whole blocks as all of these
  int32_t in, out, blocks;
};

struct Norm {
  const float *weight, *bias;
};

struct Layer {
  Norm attention_norm;
  Linear qkv, attention_out;
  Norm mlp_norm;
  Linear up, down;
};

struct Gpt {
  const Layer* layers;
  Norm last_norm, final_norm;
  Linear head;
  void* cache;  // [layer][2][stream][head][positions x size]; keys turned within blocks of 16 positions: [size][16]
  int32_t count, width, heads, streams, positions, quantised;
  float epsilon;
};

struct Scratch {     // For the rows of one call:
  float *qkv;        // 3 x width
  float *mixed;      // width
  float *raised;     // 4 x width
  uint8_t *quants;   // 4 x width
  float *steps;      // 1
  float *weights;    // one for each position, for each thread
};

enum class Then { kStore, kAdd, kGelu };

template <Then then>
inline void finish(float* out, Float x, __mmask16 lanes) {
  if constexpr (then == Then::kAdd) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, out));
  if constexpr (then == Then::kGelu) {
    const Float cubic = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_mul_ps(x, x), all(0.044715f)), x, x);
    x = _mm512_div_ps(x, _mm512_add_ps(all(1.0f), exponential(_mm512_mul_ps(cubic, all(-1.5957691216f)))));
  }
  _mm512_mask_storeu_ps(out, lanes, x);
}

inline __mmask16 within(int left) { return left >= kLanes ? 0xFFFF : left <= 0 ? 0 : (1u << left) - 1; }

// In assembly, since compilers copy the sums of the intrinsic to the stack and back.
inline __m512i multiply_add(__m512i sum, __m512i given, __m512i weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(given), "v"(weights));
  return sum;
}

template <int rows, Then then>
void quantised_block(const Linear& linear, int block, const uint8_t* given, const float* steps, float* out) {
  const auto* weights = static_cast<const int8_t*>(linear.weights) + size_t(block) * kBlock * linear.in;
  __m512i sums[rows][kVectors];
  for (int v = 0; v < kVectors; ++v)
    for (int r = 0; r < rows; ++r) sums[r][v] = _mm512_setzero_si512();
  for (int k = 0; k < linear.in; k += 4, weights += 4 * kBlock) {
    __m512i w[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      w[v] = _mm512_loadu_si512(weights + v * 64);
      _mm_prefetch(reinterpret_cast<const char*>(weights + v * 64 + 2048), _MM_HINT_T0);
    }
    for (int r = 0; r < rows; ++r) {
      int32_t four;
      std::memcpy(&four, given + size_t(r) * linear.in + k, 4);
      const __m512i a = _mm512_set1_epi32(four);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = multiply_add(sums[r][v], a, w[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const int at = block * kBlock + v * kLanes;
    const __m512i offset = _mm512_loadu_si512(linear.offsets + at);
    const Float scale = _mm512_loadu_ps(linear.scales + at), bias = _mm512_loadu_ps(linear.bias + at);
    for (int r = 0; r < rows; ++r) {
      const Float sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[r][v], offset));
      finish<then>(out + size_t(r) * linear.out + at,
                   _mm512_fmadd_ps(_mm512_mul_ps(sum, all(steps[r])), scale, bias), within(linear.out - at));
    }
  }
}

template <int rows, Then then>
void exact_block(const Linear& linear, int block, const float* given, const float*, float* out) {
  const auto* weights = static_cast<const float*>(linear.weights) + size_t(block) * kBlock * linear.in;
  Float sums[rows][kVectors];
  for (int v = 0; v < kVectors; ++v)
    for (int r = 0; r < rows; ++r) sums[r][v] = _mm512_setzero_ps();
  for (int k = 0; k < linear.in; ++k, weights += kBlock) {
    Float w[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      w[v] = _mm512_loadu_ps(weights + v * kLanes);
      _mm_prefetch(reinterpret_cast<const char*>(weights + v * kLanes + 512), _MM_HINT_T0);
    }
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = _mm512_fmadd_ps(all(given[size_t(r) * linear.in + k]), w[v], sums[r][v]);
  }
  for (int v = 0; v < kVectors; ++v) {
    const int at = block * kBlock + v * kLanes;
    const Float bias = _mm512_loadu_ps(linear.bias + at);
    for (int r = 0; r < rows; ++r)
      finish<then>(out + size_t(r) * linear.out + at, _mm512_add_ps(sums[r][v], bias), within(linear.out - at));
  }
}

template <Then then, typename Given, int rows = kMostRows>
inline void some_rows(int count, const Linear& linear, int block, const Given* given, const float* steps, float* out) {
  if constexpr (rows > 1) {
    if (count < rows) return some_rows<then, Given, rows - 1>(count, linear, block, given, steps, out);
  }
  if constexpr (sizeof(Given) == 1)
    quantised_block<rows, then>(linear, block, given, steps, out);
  else
    exact_block<rows, then>(linear, block, given, steps, out);
}

// This thread's share of a linear layer, by blocks of outputs: each block's weights are used for all rows in turn.
template <Then then, typename Given>
void multiply(const Linear& linear, int rows, const Given* given, const float* steps, float* out) {
  const int turns = (rows + kMostRows - 1) / kMostRows;
#pragma omp for schedule(static)
  for (int block = 0; block < linear.blocks; ++block)
    for (int turn = 0; turn < turns; ++turn) {
      const int begin = rows * turn / turns, count = rows * (turn + 1) / turns - begin;
      some_rows<then>(count, linear, block, given + size_t(begin) * linear.in, steps + begin,
                      out + size_t(begin) * linear.out);
    }
}

void quantise(const float* given, int n, uint8_t* quants, float* step) {
  Float most = all(0.0f), nothing = all(0.0f);
  for (int i = 0; i < n; i += kLanes) {
    const Float x = _mm512_loadu_ps(given + i);
    most = _mm512_max_ps(most, _mm512_abs_ps(x));
    nothing = _mm512_fmadd_ps(x, all(0.0f), nothing);
  }
  const float largest = std::max(_mm512_reduce_max_ps(most), 1e-20f);
  *step = largest / 127.0f + _mm512_reduce_add_ps(nothing);  // Not a number where one of them isn't: that must show.
  const Float factor = all(127.0f / largest);
  for (int i = 0; i < n; i += kLanes) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(given + i), factor));
    const __m128i bytes = _mm512_cvtsepi32_epi8(rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + i), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
  }
}

void normalise(const Norm& norm, const float* given, int n, float epsilon, float* out) {
  Float sum = all(0.0f), squares = all(0.0f);
  for (int i = 0; i < n; i += kLanes) sum = _mm512_add_ps(sum, _mm512_loadu_ps(given + i));
  const Float mean = all(_mm512_reduce_add_ps(sum) / float(n));
  for (int i = 0; i < n; i += kLanes) {
    const Float off = _mm512_sub_ps(_mm512_loadu_ps(given + i), mean);
    squares = _mm512_fmadd_ps(off, off, squares);
  }
  const Float scale = all(1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / float(n) + epsilon));
  for (int i = 0; i < n; i += kLanes) {
    const Float off = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(given + i), mean), scale);
    _mm512_storeu_ps(out + i, _mm512_fmadd_ps(off, _mm512_loadu_ps(norm.weight + i), _mm512_loadu_ps(norm.bias + i)));
  }
}

struct Half {
  using Number = uint16_t;
  static Float load(const Number* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static Number of(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
};

struct Single {
  using Number = float;
  static Float load(const Number* at) { return _mm512_loadu_ps(at); }
  static Number of(float x) { return x; }
};

template <typename Kind>
struct Cached {
  using Number = typename Kind::Number;
  Number *keys, *values;
  int size;

  Cached(const Gpt& gpt, int layer, int stream, int head) : size(gpt.width / gpt.heads) {
    const size_t one = size_t(gpt.positions) * size, all_of_them = one * gpt.heads * gpt.streams;
    keys = static_cast<Number*>(gpt.cache) + all_of_them * 2 * layer + one * (size_t(stream) * gpt.heads + head);
    values = keys + all_of_them;
  }

  void write(int position, const float* key, const float* value) {
    Number* column = keys + size_t(position / kLanes) * kLanes * size + position % kLanes;
    for (int i = 0; i < size; ++i) {
      column[i * kLanes] = Kind::of(key[i]);
      values[size_t(position) * size + i] = Kind::of(value[i]);
    }
  }

  // What a query makes of positions up to its own; `weights` has room for one number each.
  void attend(int position, const float* query, float* weights, float* out) const {
    const Float scale = all(1.0f / __builtin_sqrtf(float(size)));
    Float most = all(-3e38f);
    for (int begin = 0; begin <= position; begin += kLanes) {
      const Number* block = keys + size_t(begin) * size;
      Float even = all(0.0f), odd = all(0.0f);
      for (int i = 0; i < size; i += 2) {
        _mm_prefetch(reinterpret_cast<const char*>(block + (size + i) * kLanes), _MM_HINT_T0);
        even = _mm512_fmadd_ps(all(query[i]), Kind::load(block + i * kLanes), even);
        odd = _mm512_fmadd_ps(all(query[i + 1]), Kind::load(block + (i + 1) * kLanes), odd);
      }
      const Float score = _mm512_mask_mul_ps(all(-3e38f), within(position + 1 - begin), _mm512_add_ps(even, odd), scale);
      _mm512_storeu_ps(weights + begin, score);
      most = _mm512_max_ps(most, score);
    }
    const Float largest = all(_mm512_reduce_max_ps(most));
    Float sum = all(0.0f);
    for (int begin = 0; begin <= position; begin += kLanes) {
      Float weight = exponential(_mm512_sub_ps(_mm512_loadu_ps(weights + begin), largest));
      weight = _mm512_maskz_mov_ps(within(position + 1 - begin), weight);
      _mm512_storeu_ps(weights + begin, weight);
      sum = _mm512_add_ps(sum, weight);
    }
    const Float share = all(1.0f / _mm512_reduce_add_ps(sum));
    int begin = 0;
    for (; begin + 4 * kLanes <= size; begin += 4 * kLanes) mix<4>(position, weights, share, begin, out);
    for (; begin < size; begin += kLanes) mix<1>(position, weights, share, begin, out);
  }

  template <int vectors>
  void mix(int position, const float* weights, Float share, int begin, float* out) const {
    Float mixed[vectors];
    for (int v = 0; v < vectors; ++v) mixed[v] = all(0.0f);
    for (int at = 0; at <= position; ++at) {
      const Float weight = all(weights[at]);
      const Number* value = values + size_t(at) * size + begin;
      _mm_prefetch(reinterpret_cast<const char*>(value + 16 * size), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(value + 16 * size + 2 * kLanes), _MM_HINT_T0);
      for (int v = 0; v < vectors; ++v) mixed[v] = _mm512_fmadd_ps(weight, Kind::load(value + v * kLanes), mixed[v]);
    }
    for (int v = 0; v < vectors; ++v) _mm512_storeu_ps(out + begin + v * kLanes, _mm512_mul_ps(mixed[v], share));
  }
};

template <typename Kind>
void attention(const Gpt& gpt, int layer, int rows, const int32_t* streams, const int32_t* positions,
               const Scratch& scratch, float* weights) {
  const int size = gpt.width / gpt.heads, tasks = rows * gpt.heads;
#pragma omp for schedule(static)
  for (int task = 0; task < tasks; ++task) {
    const int row = task / gpt.heads, head = task % gpt.heads;
    const float* qkv = scratch.qkv + size_t(row) * 3 * gpt.width + head * size;
    Cached<Kind>(gpt, layer, streams[row], head).write(positions[row], qkv + gpt.width, qkv + 2 * gpt.width);
  }
#pragma omp for schedule(dynamic, 4)
  for (int task = 0; task < tasks; ++task) {
    const int row = task / gpt.heads, head = task % gpt.heads;
    const float* query = scratch.qkv + size_t(row) * 3 * gpt.width + head * size;
    Cached<Kind>(gpt, layer, streams[row], head)
        .attend(positions[row], query, weights, scratch.mixed + size_t(row) * gpt.width + head * size);
  }
}

// Rows through a norm (or none) and a linear layer; `normed` is where float32 keeps the normed rows.
template <Then then>
void apply(const Gpt& gpt, const Norm* norm, const Linear& linear, int rows, const float* given, float* normed,
           const Scratch& scratch, float* out) {
  if (norm || gpt.quantised) {
#pragma omp for schedule(static)
    for (int row = 0; row < rows; ++row) {
      const float* from = given + size_t(row) * linear.in;
      float* to = normed + size_t(row) * linear.in;
      if (norm) normalise(*norm, from, linear.in, gpt.epsilon, to);
      if (gpt.quantised)
        quantise(norm ? to : from, linear.in, scratch.quants + size_t(row) * linear.in, scratch.steps + row);
    }
  }
  if (gpt.quantised)
    multiply<then>(linear, rows, scratch.quants, scratch.steps, out);
  else
    multiply<then>(linear, rows, norm ? normed : given, scratch.steps, out);
}

}  // namespace xtts

// The state (rows, width) goes through all layers. With `logits` (rows, codes) it ends as latents, without as nothing.
extern "C" void xtts_gpt(const xtts::Gpt* given_gpt, int rows, const int32_t* streams, const int32_t* positions,
                         float* state, float* logits, const xtts::Scratch* given_scratch, int threads) {
  using namespace xtts;
  const Gpt& gpt = *given_gpt;
  const Scratch& scratch = *given_scratch;
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
    float* weights = scratch.weights + size_t(thread) * gpt.positions;
    for (int index = 0; index < gpt.count; ++index) {
      const Layer& layer = gpt.layers[index];
      apply<Then::kStore>(gpt, &layer.attention_norm, layer.qkv, rows, state, scratch.mixed, scratch, scratch.qkv);
      if (gpt.quantised)
        attention<Half>(gpt, index, rows, streams, positions, scratch, weights);
      else
        attention<Single>(gpt, index, rows, streams, positions, scratch, weights);
      if (!logits && index + 1 == gpt.count) break;
      apply<Then::kAdd>(gpt, nullptr, layer.attention_out, rows, scratch.mixed, nullptr, scratch, state);
      apply<Then::kGelu>(gpt, &layer.mlp_norm, layer.up, rows, state, scratch.mixed, scratch, scratch.raised);
      apply<Then::kAdd>(gpt, nullptr, layer.down, rows, scratch.raised, nullptr, scratch, state);
    }
    if (logits) {
#pragma omp for schedule(static)
      for (int row = 0; row < rows; ++row) {
        float* at = state + size_t(row) * gpt.width;
        normalise(gpt.last_norm, at, gpt.width, gpt.epsilon, at);
        normalise(gpt.final_norm, at, gpt.width, gpt.epsilon, at);
      }
      apply<Then::kStore>(gpt, nullptr, gpt.head, rows, state, nullptr, scratch, logits);
    }
  }
}
