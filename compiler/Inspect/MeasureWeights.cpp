// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/MeasureWeights.h"

#include "llvm/ADT/STLExtras.h"
#include <cmath>
#include <random>

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

StringRef tercet::nameDistribution(double zeroFraction) {
  if (zeroFraction < 0.05)
    return "signs";
  if (zeroFraction < 0.28)
    return "uniform"; // 25 %
  if (zeroFraction < 0.35)
    return "gaussian"; // 31 %
  if (zeroFraction < 0.455)
    return "laplace"; // 39 %
  return "heavy-tailed";
}

Expected<WeightMeasures> tercet::measurePacked(ParameterReader &reader,
                                               ParameterOp parameter) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  WeightMeasures result{0, 0, std::nullopt};
  std::vector<int8_t> trits(type.getDimSize(1));
  for (int64_t row = 0; row < type.getDimSize(0); ++row) {
    if (Error error = reader.readTrits(parameter, row, row + 1, trits))
      return std::move(error);
    result.zeros += llvm::count(trits, 0);
  }
  return result;
}

namespace {

/// A token's activations: as they are, quantised, and dequantised again.
struct Activations {
  explicit Activations(int64_t size) : raw(size), quantised(size), fake(size) {
    std::mt19937 generator(1);
    std::normal_distribution<float> gaussian;
    float absmax = 1e-5f;
    for (float &x : raw) {
      x = gaussian(generator);
      absmax = std::max(absmax, std::abs(x));
    }
    scale = 127 / absmax;
    for (int64_t i = 0; i < size; ++i) {
      quantised[i] =
          int32_t(std::clamp(std::nearbyint(raw[i] * scale), -128.f, 127.f));
      fake[i] = quantised[i] / scale;
    }
  }

  std::vector<float> raw;
  std::vector<int32_t> quantised;
  std::vector<float> fake;
  float scale;
};

/// What one row of a latent matrix adds to the measures.
struct RowSums {
  uint64_t zeros = 0;
  float smallest = INFINITY, largest = 0; ///< of |w|, without zeros
  double wq = 0, ww = 0;
  double y = 0, fake = 0, raw = 0;
};

struct Cosine {
  double ab = 0, aa = 0, bb = 0;
  void add(double a, double b) {
    ab += a * b;
    aa += a * a;
    bb += b * b;
  }
  double get() const { return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0; }
};

} // namespace

static RowSums measureRow(ArrayRef<float> row, float scale,
                          const Activations &x) {
  RowSums sums;
  int32_t accumulator = 0;
  for (auto [k, w] : enumerate(row)) {
    float ratio = w / scale; // half to even: 0.5 goes to 0
    int32_t trit = (ratio > 0.5f) - (ratio < -0.5f);
    sums.zeros += trit == 0;
    if (w != 0)
      sums.smallest = std::min(sums.smallest, std::abs(w));
    sums.largest = std::max(sums.largest, std::abs(w));
    sums.wq += trit * w;
    sums.ww += double(w) * w;
    accumulator += trit * x.quantised[k];
    sums.fake += double(trit * scale) * x.fake[k];
    sums.raw += double(w) * x.raw[k];
  }
  sums.y = float(accumulator) * (scale / x.scale);
  return sums;
}

Expected<WeightMeasures> tercet::measureLatent(ParameterReader &reader,
                                               ParameterOp parameter) {
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  int64_t rows = type.getDimSize(0), columns = type.getDimSize(1);
  Expected<float> scale = computeAbsmean(reader, parameter);
  if (!scale)
    return scale.takeError();

  Activations x(columns);
  WeightMeasures result{*scale, 0, std::nullopt};
  float smallest = INFINITY, largest = 0;
  Cosine weights, fake, raw;
  std::vector<float> row(columns);
  for (int64_t i = 0; i < rows; ++i) {
    if (Error error =
            reader.readFloats(parameter, i * columns, (i + 1) * columns, row))
      return std::move(error);
    RowSums sums = measureRow(row, *scale, x);
    result.zeros += sums.zeros;
    smallest = std::min(smallest, sums.smallest);
    largest = std::max(largest, sums.largest);
    weights.ab += sums.wq;
    weights.aa += sums.ww;
    weights.bb += columns - sums.zeros;
    fake.add(sums.y, sums.fake);
    raw.add(sums.y, sums.raw);
  }
  result.latent =
      LatentMeasures{smallest == largest, weights.get(), fake.get(), raw.get()};
  return result;
}
