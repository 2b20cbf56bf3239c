// HiFi-GAN for one stream at a time: frames in, finished samples out, nothing computed twice.
//
// Every convolution has a queue of the rows (moments) that its next outputs need, with zeros before a stream's begin and
// behind its end, and writes what follows it (bias, rectifier, residual) in the same pass. A transposed convolution is a
// usual one over two rows with `factor` times the channels, whose outputs lie one behind the other.
//
// Weights are packed as [channels out / 64 or 32][tap][channels in][64 or 32], in pairs of channels where activations are
// bfloat16: products of bfloat16 are summed in float32, and sums between layers stay float32.
#include <omp.h>

#include <memory>
#include <vector>

#include "kernels.h"

namespace xtts {

constexpr float kSlope = 0.1f, kLastSlope = 0.01f;
constexpr int kTile = 48;  // Rows that a thread takes at a time.

struct Convolution {
  const void* weights;
  const float* bias;  // May be missing.
  int32_t in, out, taps, dilation;
};

struct Stage {
  Convolution spread;  // To factor x channels.
  const Convolution* pairs;  // [blocks][depth][2]
  int32_t factor, trim, channels;
};

struct Vocoder {
  Convolution first;
  const Stage* stages;
  Convolution last;  // To one channel; float32 weights [tap][channels], for what was rectified.
  int32_t count, blocks, depth, halved;
};

// Rows of numbers that come at one end and go at the other.
template <typename Number>
struct Queue {
  std::vector<Number> numbers;
  int width = 0;
  size_t begin = 0, end = 0;

  void start(int new_width, int zeros) {
    width = new_width;
    Number* at = add(zeros);
    std::fill(at, at + size_t(zeros) * width, Number(0));
  }
  int rows() const { return int((end - begin) / width); }
  Number* front() { return numbers.data() + begin; }
  Number* add(int rows) {
    const size_t more = size_t(rows) * width;
    if (end + more > numbers.size()) {
      std::copy(numbers.begin() + begin, numbers.begin() + end, numbers.begin());
      end -= begin;
      begin = 0;
      if (end + more > numbers.size()) numbers.resize(end + more);
    }
    end += more;
    return numbers.data() + end - more;
  }
  void drop(int rows) { begin += size_t(rows) * width; }
  void shorten(int rows) { end -= size_t(rows) * width; }
};

#ifdef __AVX512BF16__
struct Halved {
  using Number = uint16_t;
  static constexpr int kStep = 2;  // Channels multiplied at once.
  using Weights = __m512bh;
  static Weights load(const Number* at) { return (__m512bh)_mm512_loadu_si512(at); }
  static Float multiply(const Number* given, Weights weights, Float sum) {
    int32_t pair;
    std::memcpy(&pair, given, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), weights);
  }
  static void store(Number* at, Float x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), (__m256i)_mm512_cvtneps_pbh(x));
  }
};
#endif

struct Whole {
  using Number = float;
  static constexpr int kStep = 1;
  using Weights = Float;
  static Weights load(const Number* at) { return _mm512_loadu_ps(at); }
  static Float multiply(const Number* given, Weights weights, Float sum) {
    return _mm512_fmadd_ps(all(*given), weights, sum);
  }
  static void store(Number* at, Float x) { _mm512_storeu_ps(at, x); }
};

// What becomes of a convolution's sums, sixteen at a time; `at` counts numbers from the first output row on.
template <typename Kind>
struct Ends {
  const float* bias = nullptr;
  int bias_width = 0;                       // Outputs after which the bias begins anew.
  const float* residual = nullptr;          // Added.
  float* plain = nullptr;                   // Takes the sum,
  typename Kind::Number* bent = nullptr;    // and the rectified one.

  void operator()(size_t at, int channel, Float x) const {
    if (bias) x = _mm512_add_ps(x, _mm512_loadu_ps(bias + channel % bias_width));
    if (residual) x = _mm512_add_ps(x, _mm512_loadu_ps(residual + at));
    if (plain) _mm512_storeu_ps(plain + at, x);
    if (bent) Kind::store(bent + at, leaky(x, all(kSlope)));
  }
};

template <typename Kind, int vectors, int rows>
void tile(const Convolution& layer, const typename Kind::Number* weights, const typename Kind::Number* given, int channel,
          size_t row, const Ends<Kind>& ends) {
  Float sums[rows][vectors];
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v] = _mm512_setzero_ps();
  for (int tap = 0; tap < layer.taps; ++tap) {
    const auto* from = given + (row + size_t(tap) * layer.dilation) * layer.in;
    for (int k = 0; k < layer.in; k += Kind::kStep, weights += vectors * kLanes * Kind::kStep) {
      typename Kind::Weights w[vectors];
      for (int v = 0; v < vectors; ++v) w[v] = Kind::load(weights + v * kLanes * Kind::kStep);
      for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) sums[r][v] = Kind::multiply(from + size_t(r) * layer.in + k, w[v], sums[r][v]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v)
      ends((row + r) * layer.out + channel + v * kLanes, channel + v * kLanes, sums[r][v]);
}

template <typename Kind, int vectors, int rows>
void tiles(int count, const Convolution& layer, const typename Kind::Number* weights,
           const typename Kind::Number* given, int channel, size_t row, const Ends<Kind>& ends) {
  if constexpr (rows > 1) {
    if (count < rows) return tiles<Kind, vectors, rows - 1>(count, layer, weights, given, channel, row, ends);
  }
  tile<Kind, vectors, rows>(layer, weights, given, channel, row, ends);
}

template <typename Kind, int vectors>
void convolve_blocks(const Convolution& layer, const typename Kind::Number* given, int rows, const Ends<Kind>& ends) {
  constexpr int kWidth = vectors * kLanes, kRows = 24 / vectors;
  const int blocks = layer.out / kWidth, parts = (rows + kTile - 1) / kTile;
  const auto* weights = static_cast<const typename Kind::Number*>(layer.weights);
#pragma omp for schedule(dynamic, 1)
  for (int task = 0; task < blocks * parts; ++task) {
    const int block = task / parts, part = task % parts;
    const int begin = int(int64_t(rows) * part / parts), end = int(int64_t(rows) * (part + 1) / parts);
    const int turns = (end - begin + kRows - 1) / kRows;
    for (int turn = 0; turn < turns; ++turn) {
      const int from = begin + (end - begin) * turn / turns, to = begin + (end - begin) * (turn + 1) / turns;
      tiles<Kind, vectors, kRows>(to - from, layer, weights + size_t(block) * kWidth * layer.taps * layer.in, given,
                                  block * kWidth, from, ends);
    }
  }
}

// All outputs of `rows` moments; called by every thread of a parallel region.
template <typename Kind>
void convolve(const Convolution& layer, const typename Kind::Number* given, int rows, const Ends<Kind>& ends) {
  if (layer.out % 64 == 0)
    convolve_blocks<Kind, 4>(layer, given, rows, ends);
  else if (layer.out % 32 == 0)
    convolve_blocks<Kind, 2>(layer, given, rows, ends);
  else
    convolve_blocks<Kind, 1>(layer, given, rows, ends);
}

inline int reach(const Convolution& layer) { return (layer.taps - 1) * layer.dilation; }

template <typename Kind>
struct Stream {
  using Number = typename Kind::Number;

  struct Pair {
    Queue<float> plain;
    Queue<Number> first, second;
  };
  struct Block {
    std::vector<Pair> pairs;
    Queue<float> made;
  };
  struct Step {
    Queue<Number> spread;
    std::vector<Block> blocks;
    int begun = 0;
  };

  const Vocoder& vocoder;
  Queue<Number> first;
  std::vector<Step> steps;
  Queue<float> last;
  int threads = 1;

  explicit Stream(const Vocoder& given) : vocoder(given), steps(given.count) {
    first.start(given.first.in, reach(given.first) / 2);
    for (int s = 0; s < given.count; ++s) {
      const Stage& stage = given.stages[s];
      steps[s].spread.start(stage.spread.in, reach(stage.spread));
      steps[s].blocks.resize(given.blocks);
      for (int b = 0; b < given.blocks; ++b) {
        Block& block = steps[s].blocks[b];
        block.made.start(stage.channels, 0);
        block.pairs.resize(given.depth);
        for (int d = 0; d < given.depth; ++d) {
          const Convolution* pair = stage.pairs + (b * given.depth + d) * 2;
          block.pairs[d].plain.start(stage.channels, 0);
          block.pairs[d].first.start(stage.channels, reach(pair[0]) / 2);
          block.pairs[d].second.start(stage.channels, reach(pair[1]) / 2);
        }
      }
    }
    last.start(given.last.in, reach(given.last) / 2);
  }

  // Runs a convolution over what its queue holds, and lets what is used up go; `room` makes room for the outputs.
  template <typename Room>
  int run(const Convolution& layer, Queue<Number>& queue, Room room) {
    const int rows = queue.rows() - reach(layer);
    if (rows <= 0) return 0;
    const Ends<Kind> ends = room(rows);
    const Number* given = queue.front();
#pragma omp parallel num_threads(threads)
    convolve<Kind>(layer, given, rows, ends);
    queue.drop(rows);
    return rows;
  }

  void pad(Queue<Number>& queue, int rows) {
    Number* at = queue.add(rows);
    std::fill(at, at + size_t(rows) * queue.width, Number(0));
  }

  // Frames [rows][channels] through all layers; returns how many samples were written.
  int push(const float* frames, int rows, const float* const* shades, bool ends_here, float* out) {
    Number* at = first.add(rows);
    for (size_t i = 0; i < size_t(rows) * first.width; i += kLanes) Kind::store(at + i, _mm512_loadu_ps(frames + i));
    if (ends_here) pad(first, reach(vocoder.first) / 2);
    run(vocoder.first, first, [&](int made) {
      Ends<Kind> ends;
      ends.bias = shades[0];
      ends.bias_width = vocoder.first.out;
      ends.bent = steps[0].spread.add(made);
      return ends;
    });
    for (int s = 0; s < vocoder.count; ++s) stage(s, shades[s + 1], ends_here);
    return finish(ends_here, out);
  }

  void stage(int s, const float* shade, bool ends_here) {
    const Stage& stage = vocoder.stages[s];
    Step& step = steps[s];
    if (ends_here) pad(step.spread, reach(stage.spread));
    Queue<float>& plain = step.blocks[0].pairs[0].plain;
    int spread = run(stage.spread, step.spread, [&](int made) {
      Ends<Kind> ends;
      ends.bias = shade;
      ends.bias_width = stage.channels;
      ends.plain = plain.add(made * stage.factor);
      return ends;
    });
    spread *= stage.factor;
    if (spread && !step.begun) {
      step.begun = 1;
      std::copy(plain.front() + size_t(stage.trim) * plain.width, plain.front() + size_t(spread) * plain.width, plain.front());
      plain.shorten(stage.trim);
      spread -= stage.trim;
    }
    if (spread && ends_here) {
      plain.shorten(stage.trim);
      spread -= stage.trim;
    }
    if (spread) {
      const float* given = plain.numbers.data() + plain.end - size_t(spread) * plain.width;
      const size_t count = size_t(spread) * plain.width;
      for (int b = 0; b < vocoder.blocks; ++b) {
        if (b) std::copy(given, given + count, step.blocks[b].pairs[0].plain.add(spread));
        Number* bent = step.blocks[b].pairs[0].first.add(spread);
        for (size_t i = 0; i < count; i += kLanes)
          Kind::store(bent + i, leaky(_mm512_loadu_ps(given + i), all(kSlope)));
      }
    }
    int ready = 1 << 30;
    for (int b = 0; b < vocoder.blocks; ++b) {
      residual(step.blocks[b], stage, b, ends_here);
      ready = std::min(ready, step.blocks[b].made.rows());
    }
    if (ready) gather(s, ready);
  }

  void residual(Block& block, const Stage& stage, int b, bool ends_here) {
    for (int d = 0; d < vocoder.depth; ++d) {
      const Convolution* pair = stage.pairs + (b * vocoder.depth + d) * 2;
      Pair& queues = block.pairs[d];
      if (ends_here) pad(queues.first, reach(pair[0]) / 2);
      run(pair[0], queues.first, [&](int made) {
        Ends<Kind> ends;
        ends.bias = pair[0].bias;
        ends.bias_width = stage.channels;
        ends.bent = queues.second.add(made);
        return ends;
      });
      if (ends_here) pad(queues.second, reach(pair[1]) / 2);
      const int made = run(pair[1], queues.second, [&](int made) {
        Ends<Kind> ends;
        ends.bias = pair[1].bias;
        ends.bias_width = stage.channels;
        ends.residual = queues.plain.front();
        if (d + 1 < vocoder.depth) {
          ends.plain = block.pairs[d + 1].plain.add(made);
          ends.bent = block.pairs[d + 1].first.add(made);
        } else {
          ends.plain = block.made.add(made);
        }
        return ends;
      });
      queues.plain.drop(made);
    }
  }

  // The sum of the blocks' outputs, rectified, for what comes next, whose weights make it a mean.
  void gather(int s, int rows) {
    Step& step = steps[s];
    const bool to_last = s + 1 == vocoder.count;
    const size_t count = size_t(rows) * vocoder.stages[s].channels;
    float* plain = to_last ? last.add(rows) : nullptr;
    Number* bent = to_last ? nullptr : steps[s + 1].spread.add(rows);
    for (size_t i = 0; i < count; i += kLanes) {
      Float sum = _mm512_loadu_ps(step.blocks[0].made.front() + i);
      for (int b = 1; b < vocoder.blocks; ++b)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(step.blocks[b].made.front() + i));
      if (to_last)
        _mm512_storeu_ps(plain + i, leaky(sum, all(kLastSlope)));
      else
        Kind::store(bent + i, leaky(sum, all(kSlope)));
    }
    for (Block& block : step.blocks) block.made.drop(rows);
  }

  int finish(bool ends_here, float* out) {
    const Convolution& layer = vocoder.last;
    if (ends_here) {
      const int rows = reach(layer) / 2;
      float* at = last.add(rows);
      std::fill(at, at + size_t(rows) * last.width, 0.0f);
    }
    const int rows = last.rows() - reach(layer);
    if (rows <= 0) return 0;
    const auto* weights = static_cast<const float*>(layer.weights);
    const float* given = last.front();
    const int count = layer.taps * layer.in;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int row = 0; row < rows; ++row) {
      Float sum = all(0.0f);
      for (int i = 0; i < count; i += kLanes)
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(given + size_t(row) * layer.in + i), _mm512_loadu_ps(weights + i), sum);
      const Float power = exponential(all(-2.0f * _mm512_reduce_add_ps(sum)));  // tanh x = 2 / (1 + e^-2x) - 1
      out[row] = _mm512_cvtss_f32(_mm512_sub_ps(_mm512_div_ps(all(2.0f), _mm512_add_ps(all(1.0f), power)), all(1.0f)));
    }
    last.drop(rows);
    return rows;
  }
};

#ifdef __AVX512BF16__
using Narrow = Stream<Halved>;
#else
using Narrow = Stream<Whole>;
#endif

}  // namespace xtts

extern "C" {

void* xtts_stream(const xtts::Vocoder* vocoder) {
  if (vocoder->halved) return new xtts::Narrow(*vocoder);
  return new xtts::Stream<xtts::Whole>(*vocoder);
}

void xtts_end_stream(const xtts::Vocoder* vocoder, void* stream) {
  if (vocoder->halved)
    delete static_cast<xtts::Narrow*>(stream);
  else
    delete static_cast<xtts::Stream<xtts::Whole>*>(stream);
}

int xtts_push(const xtts::Vocoder* vocoder, void* stream, const float* frames, int rows, const float* const* shades,
              int ends_here, float* out, int threads) {
  if (vocoder->halved) {
    auto& narrow = *static_cast<xtts::Narrow*>(stream);
    narrow.threads = threads;
    return narrow.push(frames, rows, shades, ends_here, out);
  }
  auto& whole = *static_cast<xtts::Stream<xtts::Whole>*>(stream);
  whole.threads = threads;
  return whole.push(frames, rows, shades, ends_here, out);
}
}
