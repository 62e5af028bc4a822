// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/ReferenceOps.h"
#include "compiler/Reference/ReferenceMath.h"
#include "compiler/Support/PackedLayout.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/Parallel.h"

#include <algorithm>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;

/// An id that came from outside must be in [0, bound).
static Error checkIds(ArrayRef<int32_t> ids, int64_t bound, const char *what) {
  for (int32_t id : ids)
    if (id < 0 || id >= bound)
      return createStringError(Twine(what) + " " + Twine(id) +
                               " is not in [0, " + Twine(bound) + ")");
  return Error::success();
}

//===----------------------------------------------------------------------===//
// BitLinear
//===----------------------------------------------------------------------===//

Quantised reference::quantizeActivations(const Floats &x, int64_t columns,
                                         std::optional<int64_t> group) {
  int64_t numTokens = x.shape[0], numGroups = 1;
  SmallVector<int64_t> sumShape = {numTokens};
  if (group)
    sumShape.push_back(numGroups = divideCeil(x.shape[1], *group));
  Quantised result{Bytes({numTokens, columns}), Floats(numTokens),
                   Ints(sumShape)};
  for (int64_t n = 0; n < numTokens; ++n) {
    float absmax = 0;
    for (float value : x.row(n))
      absmax = std::max(absmax, std::fabs(value));
    float s = 127.0f / std::max(absmax, 1e-5f);
    for (auto [k, value] : enumerate(x.row(n))) {
      auto q = int8_t(std::clamp(roundEven(value * s), -128.0f, 127.0f));
      result.q.row(n)[k] = q;
      result.sum.data[n * numGroups + (group ? k / *group : 0)] += q;
    }
    result.scale.data[n] = s;
  }
  return result;
}

void reference::matmul(const Bytes &q, const Bytes &weights, int64_t column,
                       Ints &acc, std::optional<int64_t> group) {
  int64_t width = acc.shape.back();
  int64_t columns = weights.shape[1], groupSize = group.value_or(columns);
  parallelFor(0, weights.shape[0], [&](size_t m) {
    int32_t *out = &acc.data[column + m];
    for (int64_t n = 0; n < q.shape[0]; ++n)
      for (int64_t begin = 0; begin < columns; begin += groupSize) {
        int64_t size = std::min(groupSize, columns - begin);
        int32_t sum = 0;
        for (auto [activation, weight] : zip(q.row(n).slice(begin, size),
                                             weights.row(m).slice(begin, size)))
          sum += int32_t(activation) * weight;
        *out = sum;
        out += width;
      }
  });
}

void reference::rescale(const Ints &acc, const Floats &activationScale,
                        float weightScale, int64_t begin, int64_t end,
                        Floats &y) {
  for (int64_t n = 0; n < acc.shape[0]; ++n) {
    float factor = weightScale / activationScale.data[n];
    for (int64_t column = begin; column < end; ++column)
      y.row(n)[column] = float(acc.row(n)[column]) * factor;
  }
}

void reference::rescaleGroups(const Ints &acc, const Floats &activationScale,
                              const Floats &weightScales, int64_t column,
                              Floats &y) {
  int64_t numGroups = acc.shape[1], width = acc.shape[2];
  for (int64_t n = 0; n < y.shape[0]; ++n) {
    float factor = 1 / activationScale.data[n];
    for (int64_t m = 0; m < weightScales.shape[0]; ++m) {
      float chain = 0;
      for (int64_t g = 0; g < numGroups; ++g) {
        int32_t sum = acc.data[(n * numGroups + g) * width + column + m];
        chain = std::fma(float(sum), weightScales.row(m)[g], chain);
      }
      y.row(n)[column + m] = chain * factor;
    }
  }
}

Trits reference::absmeanQuantize(const Floats &latent) {
  double sum = 0;
  for (float weight : latent.data)
    sum += std::fabs(weight);
  Trits result{Bytes(latent.shape),
               float(std::max(sum / double(latent.data.size()), 1e-5))};
  for (auto [weight, trit] : zip(latent.data, result.trits.data))
    trit = int8_t(std::clamp(roundEven(weight / result.scale), -1.0f, 1.0f));
  return result;
}

//===----------------------------------------------------------------------===//
// The rest of a transformer
//===----------------------------------------------------------------------===//

Expected<Floats> reference::embedding(const Ints &tokens, const Floats &table) {
  if (Error error = checkIds(tokens.data, table.shape[0], "token"))
    return std::move(error);
  return gatherRows(table, tokens);
}

Floats reference::rmsNorm(const Floats &x, const Floats &weight,
                          float epsilon) {
  Floats y(x.shape);
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    float mean = sumSquares16(x.row(n)) / float(x.shape[1]);
    float r = 1.0f / std::sqrt(mean + epsilon);
    for (int64_t i = 0; i < x.shape[1]; ++i)
      y.row(n)[i] = weight.data[i] * (x.row(n)[i] * r);
  }
  return y;
}

Expected<Floats> reference::rope(const Floats &x, const Ints &positions,
                                 const Floats &table) {
  if (Error error = checkIds(positions.data, table.shape[0], "position"))
    return std::move(error);
  int64_t headDim = table.shape[1], half = headDim / 2;
  Floats y(x.shape);
  for (int64_t n = 0; n < x.shape[0]; ++n) {
    ArrayRef<float> cosines = table.row(positions.data[n]).take_front(half);
    ArrayRef<float> sines = table.row(positions.data[n]).drop_front(half);
    for (int64_t head = 0; head < x.shape[1]; head += headDim)
      for (int64_t i = 0; i < half; ++i) {
        float x1 = x.row(n)[head + i], x2 = x.row(n)[head + half + i];
        float c = cosines[i], s = sines[i];
        y.row(n)[head + i] = std::fma(x1, c, -(x2 * s));
        y.row(n)[head + half + i] = std::fma(x2, c, x1 * s);
      }
  }
  return y;
}

/// One head of a key, a value or a query in int8; returns its scale.
static float quantizeHead(ArrayRef<float> x, MutableArrayRef<float> codes) {
  float absmax = 1e-5f;
  for (float value : x)
    absmax = std::max(absmax, std::fabs(value));
  float s = 127.0f / absmax;
  for (auto [value, code] : zip(x, codes))
    code = int32_t(roundEven(value * s));
  return absmax / 127.0f;
}

/// Half to even, as integers.
static float roundToBF16(float value) {
  uint32_t bits = bit_cast<uint32_t>(value);
  bits += 0x7fff + (bits >> 16 & 1);
  return bit_cast<float>(bits & 0xffff0000);
}

/// Stores all heads of a position.
static void storeHeads(ArrayRef<float> x, int64_t position,
                       const KVCache &cache, std::vector<float> &rows,
                       std::vector<float> &scales) {
  size_t width = cache.getWidth(), begin = position * width;
  if (rows.size() < begin + width) {
    rows.resize(begin + width);
    scales.resize((position + 1) * cache.heads);
  }
  auto row = MutableArrayRef(rows).slice(begin, width);
  switch (cache.element) {
  case ternary::KVElement::F32:
    copy(x, row.begin());
    return;
  case ternary::KVElement::BF16:
    transform(x, row.begin(), roundToBF16);
    return;
  case ternary::KVElement::Int8:
    for (int64_t head = 0; head < cache.heads; ++head)
      scales[position * cache.heads + head] =
          quantizeHead(x.slice(head * cache.headDim, cache.headDim),
                       row.slice(head * cache.headDim, cache.headDim));
  }
}

Error reference::kvUpdate(const Floats &keys, const Floats &values,
                          const Ints &positions, const Ints &slots,
                          KVCache &cache, int64_t layer) {
  if (Error error = checkIds(positions.data, cache.capacity, "position"))
    return error;
  if (Error error = checkIds(slots.data, INT32_MAX, "slot"))
    return error;
  for (int64_t n = 0; n < keys.shape[0]; ++n) {
    KVCache::Rows &rows = cache.rows[{slots.data[n], layer}];
    storeHeads(keys.row(n), positions.data[n], cache, rows.keys,
               rows.keyScales);
    storeHeads(values.row(n), positions.data[n], cache, rows.values,
               rows.valueScales);
  }
  return Error::success();
}

namespace {
/// The keys and values that one query head attends to.
struct HeadView {
  const KVCache &cache;
  const KVCache::Rows &rows;
  int64_t head, numKeys;

  ArrayRef<float> key(int64_t j) const { return slice(rows.keys, j); }
  ArrayRef<float> value(int64_t j) const { return slice(rows.values, j); }
  float keyScale(int64_t j) const {
    return rows.keyScales[j * cache.heads + head];
  }
  float valueScale(int64_t j) const {
    return rows.valueScales[j * cache.heads + head];
  }

private:
  ArrayRef<float> slice(ArrayRef<float> all, int64_t j) const {
    return all.slice(j * cache.getWidth() + head * cache.headDim,
                     cache.headDim);
  }
};
} // namespace

static std::vector<float> computeScores(ArrayRef<float> q, const HeadView &view,
                                        float scale) {
  std::vector<float> scores;
  for (int64_t j = 0; j < view.numKeys; ++j) {
    float score = 0;
    for (auto [x, k] : zip(q, view.key(j)))
      score = std::fma(x, k, score);
    scores.push_back(score * scale);
  }
  return scores;
}

/// The query in int8 as well: the products add up in integers.
static std::vector<float> computeInt8Scores(ArrayRef<float> q,
                                            const HeadView &view, float scale) {
  std::vector<float> codes(q.size()), scores;
  float factor = quantizeHead(q, codes) * scale;
  for (int64_t j = 0; j < view.numKeys; ++j) {
    int32_t sum = 0;
    for (auto [x, k] : zip(codes, view.key(j)))
      sum += int32_t(x) * int32_t(k);
    scores.push_back(float(sum) * (view.keyScale(j) * factor));
  }
  return scores;
}

static void attendHead(ArrayRef<float> q, const HeadView &view, float scale,
                       MutableArrayRef<float> y) {
  bool isInt8 = view.cache.element == ternary::KVElement::Int8;
  std::vector<float> p = isInt8 ? computeInt8Scores(q, view, scale)
                                : computeScores(q, view, scale);
  float max = *std::max_element(p.begin(), p.end());
  for (float &probability : p) {
    float x = probability - max;
    probability = x >= ternary::kLeastExponent ? reference::exp(x) : 0;
  }
  float normaliser = 1.0f / sum16(p);
  if (isInt8)
    for (int64_t j = 0; j < view.numKeys; ++j)
      p[j] = p[j] * view.valueScale(j);
  for (size_t d = 0; d < q.size(); ++d) {
    float o = 0;
    for (int64_t j = 0; j < view.numKeys; ++j)
      o = std::fma(p[j], view.value(j)[d], o);
    y[d] = o * normaliser;
  }
}

Expected<Floats> reference::attention(const Floats &q, const Ints &positions,
                                      const Ints &slots, const KVCache &cache,
                                      int64_t layer, float scale) {
  int64_t width = cache.getWidth(), headDim = cache.headDim;
  int64_t queryHeads = q.shape[1] / headDim;
  std::vector<const KVCache::Rows *> rows;
  for (auto [slot, position] : zip(slots.data, positions.data)) {
    auto entry = cache.rows.find({slot, layer});
    if (position < 0 || entry == cache.rows.end() ||
        (position + 1) * width > int64_t(entry->second.keys.size()))
      return createStringError("position " + Twine(position) + " of slot " +
                               Twine(slot) + " was never stored");
    rows.push_back(&entry->second);
  }
  Floats y(q.shape);
  parallelFor(0, q.shape[0] * queryHeads, [&](size_t i) {
    int64_t n = i / queryHeads, head = i % queryHeads;
    HeadView view{cache, *rows[n], head / (queryHeads / cache.heads),
                  positions.data[n] + 1};
    attendHead(q.row(n).slice(head * headDim, headDim), view, scale,
               y.row(n).slice(head * headDim, headDim));
  });
  return y;
}

Floats reference::gatedActivation(ternary::Activation activation,
                                  const Floats &gate, const Floats &up) {
  Floats y(gate.shape);
  for (auto [g, u, result] : zip(gate.data, up.data, y.data)) {
    if (activation == ternary::Activation::ReLU2) {
      float r = g > 0 ? g : 0;
      result = (r * r) * u;
    } else {
      result = (g / (1.0f + reference::exp(-g))) * u;
    }
  }
  return y;
}

Expected<Floats> reference::gatherRows(const Floats &x, const Ints &rows) {
  if (Error error = checkIds(rows.data, x.shape[0], "row"))
    return std::move(error);
  Floats y({int64_t(rows.data.size()), x.shape[1]});
  for (auto [i, row] : enumerate(rows.data))
    copy(x.row(row), y.row(i).begin());
  return y;
}

Floats reference::linear(const Floats &x, const Floats &weight,
                         int64_t columns) {
  Floats y({x.shape[0], columns});
  parallelFor(0, weight.shape[0], [&](size_t m) {
    for (int64_t n = 0; n < x.shape[0]; ++n) {
      float sum = 0;
      for (auto [w, value] : zip(weight.row(m), x.row(n)))
        sum = std::fma(w, value, sum);
      y.row(n)[m] = sum;
    }
  });
  return y;
}

Expected<Floats> reference::linear(const Floats &x, const Floats &weight,
                                   const Ints &groups, const Floats &y) {
  int64_t numRows = weight.shape[0];
  if (Error error = checkIds(groups.data,
                             divideCeil(numRows, ternary::kRowGroup), "group"))
    return std::move(error);
  Floats all = linear(x, weight, y.shape[1]), result = y;
  for (int64_t group : groups.data) {
    int64_t first = group * ternary::kRowGroup;
    int64_t count = std::min(ternary::kRowGroup, numRows - first);
    for (int64_t n = 0; n < x.shape[0]; ++n)
      copy(all.row(n).slice(first, count), result.row(n).begin() + first);
  }
  return result;
}

WideActivations reference::quantizeWide(const Floats &x, int64_t group) {
  int64_t numTokens = x.shape[0], columns = x.shape[1];
  int64_t padded = getPaddedColumns(columns);
  WideActivations result{
      Bytes({numTokens, padded}), Bytes({numTokens, padded}), Floats(numTokens),
      Ints({numTokens, int64_t(divideCeil(columns, group))})};
  for (int64_t n = 0; n < numTokens; ++n) {
    float absmax = 1e-30f;
    for (float value : x.row(n))
      absmax = std::max(absmax, std::fabs(value));
    result.scale.data[n] = absmax / 32639.0f;
    float factor = 32639.0f / absmax;
    for (int64_t i = 0; i < columns; ++i) {
      int32_t q = int32_t(
          std::clamp(roundEven(x.row(n)[i] * factor), -32639.0f, 32639.0f));
      int8_t low = int8_t(uint8_t(q));
      result.low.row(n)[i] = low;
      result.high.row(n)[i] = int8_t((q - low) / 256);
      result.sums.row(n)[i / group] += q;
    }
  }
  return result;
}

Floats reference::quantizedLinear(const WideActivations &x,
                                  const CodeMatrix &weights, int64_t columns) {
  ternary::CodeFormatInfo info = ternary::getCodeFormatInfo(weights.format);
  Floats y({x.high.shape[0], columns});
  parallelFor(0, weights.rows, [&](size_t m) {
    for (int64_t n = 0; n < y.shape[0]; ++n) {
      float chain = 0;
      for (auto [g, group] : enumerate(weights.groupsOf(m))) {
        int32_t sum = 0;
        for (int64_t k = g * info.group,
                     e = std::min(k + info.group, weights.columns);
             k < e; ++k)
          sum += (weights.codesOf(m)[k] - int32_t(info.zero())) *
                 (256 * x.high.row(n)[k] + x.low.row(n)[k]);
        chain = std::fma(float(sum), group.scale, chain);
        if (info.hasMinimum)
          chain = std::fma(float(x.sums.row(n)[g]), group.minimum, chain);
      }
      y.row(n)[m] = chain * x.scale.data[n];
    }
  });
  return y;
}

//===----------------------------------------------------------------------===//
// Packed weights
//===----------------------------------------------------------------------===//

Bytes reference::unpackTrits(const Bytes &packed, ternary::LayoutAttr layout,
                             int64_t rows, int64_t columns) {
  Bytes trits({rows, columns});
  ArrayRef bytes(reinterpret_cast<const uint8_t *>(packed.data.data()),
                 packed.data.size());
  parallelFor(0, rows, [&](size_t row) {
    for (int64_t column = 0; column < columns; ++column) {
      TritAddress at = getTritAddress(layout, row, column, rows, columns);
      trits.row(row)[column] = decodeTrit(layout.getPacking(), bytes, at);
    }
  });
  return trits;
}

Floats reference::unpackGroupScales(const Floats &packed) {
  int64_t numGroups = packed.shape[1];
  Floats scales({packed.shape[0] * ternary::kRowGroup, numGroups});
  for (int64_t row = 0; row < scales.shape[0]; ++row)
    for (int64_t group = 0; group < numGroups; ++group)
      scales.row(row)[group] =
          packed.data[getGroupScaleIndex(row, group, numGroups)];
  return scales;
}

Floats reference::unpackFloats(const Bytes &packed, ternary::LayoutAttr layout,
                               int64_t rows, int64_t columns) {
  Floats floats({rows, columns});
  ArrayRef bytes(reinterpret_cast<const uint8_t *>(packed.data.data()),
                 packed.data.size());
  parallelFor(0, rows, [&](size_t row) {
    tercet::unpackFloats(layout, bytes, row, floats.row(row));
  });
  return floats;
}

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

Bytes reference::unpack(const Bytes &bytes, unsigned plane, bool inPlace) {
  Bytes codes(bytes.shape);
  for (auto [byte, code] : zip(bytes.data, codes.data)) {
    unsigned field = uint8_t(byte) & (3u << (2 * plane));
    code = int8_t(inPlace ? field : field >> (2 * plane));
  }
  return codes;
}

std::pair<Bytes, Bytes> reference::unpackT5(const Bytes &bytes) {
  Bytes fields(bytes.shape), last(bytes.shape);
  for (auto [byte, field, code] : zip(bytes.data, fields.data, last.data)) {
    std::array<int8_t, 5> trits = ternary::getT5Trits(byte);
    for (unsigned plane = 0; plane < 4; ++plane)
      field |= (trits[plane] + 1) << (2 * plane);
    code = trits[4] + 1;
  }
  return {fields, last};
}

Bytes reference::unpackT3(const Bytes &magnitudes, const Bytes &signs) {
  Bytes fields(magnitudes.shape);
  for (auto [byte, sign, field] :
       zip(magnitudes.data, signs.data, fields.data)) {
    std::array<int8_t, 3> trits = ternary::getT3Trits(byte & 0xf, sign < 0);
    for (unsigned plane = 0; plane < 3; ++plane)
      field |= (trits[plane] + 1) << (2 * plane);
  }
  return fields;
}

/// Codes as Code.
template <typename Code>
static Ints addDots(const Ints &acc, const Bytes &codes, const Bytes &q) {
  Ints result = acc;
  for (size_t i = 0; i < codes.data.size(); ++i) {
    uint32_t product = uint32_t(Code(codes.data[i]) * q.data[i]);
    result.data[i / 4] = int32_t(uint32_t(result.data[i / 4]) + product);
  }
  return result;
}

Ints reference::dot(const Ints &acc, const Bytes &codes, const Bytes &q) {
  return addDots<uint8_t>(acc, codes, q);
}

Ints reference::dotSigned(const Ints &acc, const Bytes &codes, const Bytes &q) {
  return addDots<int8_t>(acc, codes, q);
}

Shorts reference::dotPairs(const Shorts &acc, const Bytes &codes,
                           const Bytes &q) {
  Shorts result = acc;
  for (size_t i = 0; i < codes.data.size(); ++i)
    result.data[i / 2] += int16_t(uint8_t(codes.data[i]) * q.data[i]);
  return result;
}

Ints reference::addPairs(const Ints &acc, const Shorts &pairs) {
  Ints result = acc;
  for (size_t i = 0; i < pairs.data.size(); ++i)
    result.data[i / 2] =
        int32_t(uint32_t(result.data[i / 2]) + uint32_t(pairs.data[i]));
  return result;
}

template <typename T>
static Array<T> lookUp(const Array<T> &table, const Array<T> &indices) {
  Array<T> result(indices.shape);
  for (auto [index, value] : zip(indices.data, result.data))
    value = table.data[std::make_unsigned_t<T>(index) % table.data.size()];
  return result;
}
Bytes reference::lookup(const Bytes &table, const Bytes &indices) {
  return lookUp(table, indices);
}
Shorts reference::lookup(const Shorts &table, const Shorts &indices) {
  return lookUp(table, indices);
}
