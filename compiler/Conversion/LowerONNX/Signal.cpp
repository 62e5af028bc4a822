// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators of signal processing.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <complex>
#include <numbers>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

static Value toNumber(B &b, Value index, Type type) {
  Type i64 = b.getI64Type();
  return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, index), i64,
                      type);
}

//===----------------------------------------------------------------------===//
// Windows and filters
//===----------------------------------------------------------------------===//

/// The window sum over k of c[k] * cos(k * 2 pi n / N), where N is its size, or
/// that less one for a symmetric window.
static LogicalResult setWindow(B &b, std::array<double, 3> c) {
  FailureOr<Type> element = b.getElementType("output_datatype", b.getF32Type());
  if (failed(element))
    return failure();
  Type i64 = b.getI64Type(), type = getComputeType(*element);
  Tensor size = b.cast(b.reshape(b.input(0), {}), i64);
  Dim count = b.toDims(size)[0];
  Dim period = b.getInt("periodic", 1) ? count : b.sub(count, b.dim(1));
  Value step = b.div(b.number(2 * std::numbers::pi, type),
                     toNumber(b, b.index(period), type));
  return b.result(b.generate(count, *element, [&](ValueRange i) {
    Value angle = b.mul(toNumber(b, i[0], type), step),
          sum = b.number(c[0], type);
    for (int k : {1, 2}) {
      Value wave =
          math::CosOp::create(b, b.mul(angle, b.number(double(k), type)));
      sum = b.add(sum, b.mul(b.number(c[k], type), wave));
    }
    return b.store(b.castScalar(sum, type, *element), *element);
  }));
}

/// Triangles in a spectrum, one for each mel bin: from the center of the bin
/// before it up to its own and down to that of the next. Centers are equally
/// far apart in mel, and rounded down to an element of the spectrum.
static LogicalResult lowerMelWeightMatrix(B &b) {
  FailureOr<Type> element = b.getElementType("output_datatype", b.getF32Type());
  if (failed(element))
    return failure();
  Type i64 = b.getI64Type(), f64 = b.getF64Type();
  Dims sizes;
  for (unsigned i : {0, 1})
    sizes.push_back(b.toDims(b.cast(b.reshape(b.input(i), {}), i64))[0]);
  auto number = [&](double value) { return b.number(value, f64); };
  auto scalar = [&](unsigned i) {
    return b.at(b.cast(b.reshape(b.input(i), {}), f64), {});
  };
  // mel = 2595 log10(1 + hertz / 700)
  double perLog = 2595 / std::numbers::ln10;
  auto toMel = [&](Value hertz) -> Value {
    Value ratio = b.add(number(1), b.div(hertz, number(700)));
    return b.mul(math::LogOp::create(b, ratio), number(perLog));
  };
  Value low = toMel(scalar(3)), high = toMel(scalar(4)), rate = scalar(2);
  Value step = b.div(b.sub(high, low),
                     toNumber(b, b.index(b.add(sizes[0], b.dim(2))), f64));
  Value points = toNumber(b, b.index(b.add(sizes[1], b.dim(1))), f64);
  auto center = [&](Value bin) -> Value {
    Value mel = b.add(b.mul(toNumber(b, bin, f64), step), low);
    Value ratio = b.exp(b.div(mel, number(perLog)));
    Value hertz = b.mul(number(700), b.sub(ratio, number(1)));
    return math::FloorOp::create(b, b.div(b.mul(points, hertz), rate));
  };
  Dim bins = b.add(b.div(sizes[1], b.dim(2)), b.dim(1));
  return b.result(b.generate({bins, sizes[0]}, *element, [&](ValueRange i) {
    Value at = toNumber(b, i[0], f64), zero = number(0);
    Value left = center(i[1]), middle = center(b.add(i[1], b.index(1))),
          right = center(b.add(i[1], b.index(2)));
    Value up = b.div(b.sub(at, left), b.sub(middle, left)),
          down = b.div(b.sub(right, at), b.sub(right, middle));
    up = b.select(b.compare(Compare::GE, at, left), up, zero);
    down = b.select(b.compare(Compare::LT, at, right), down, zero);
    Value side =
        b.select(b.compare(Compare::LT, at, middle), up,
                 b.select(b.compare(Compare::EQ, at, middle), number(1), down));
    return b.store(b.castScalar(side, f64, *element), *element);
  }));
}

//===----------------------------------------------------------------------===//
// Fourier transforms
//===----------------------------------------------------------------------===//

namespace {

/// A discrete Fourier transform of some length. Without `onesided` it takes and
/// gives as many complex numbers. With it, real numbers become the half of
/// their spectrum that is not redundant, or the other way round.
struct Fourier {
  Dim length;
  bool isInverse, isOneSided;

  bool isHalfRead() const { return isInverse && isOneSided; }
  bool isHalfWritten() const { return !isInverse && isOneSided; }
  Dim half(B &b) const { return b.add(b.div(length, b.dim(2)), b.dim(1)); }
  Dim numOperands(B &b) const { return isHalfRead() ? half(b) : length; }
  Dim numResults(B &b) const { return isHalfWritten() ? half(b) : length; }
  int64_t numParts() const { return isHalfRead() ? 1 : 2; }
};

} // namespace

/// What element n of the operand contributes to element k of the result, real
/// and imaginary parts of both: [n, operand's parts, k, result's parts] as a
/// matrix.
static Tensor makeFourierMatrix(B &b, const Fourier &fourier, int64_t parts,
                                FloatType type, int64_t length) {
  int64_t half = length / 2 + 1,
          numOperands = fourier.isHalfRead() ? half : length,
          numResults = fourier.isHalfWritten() ? half : length;
  SmallVector<Attribute> values;
  for (int64_t n = 0; n < numOperands; ++n)
    for (int64_t part = 0; part < parts; ++part)
      for (int64_t k = 0; k < numResults; ++k) {
        double angle = 2 * std::numbers::pi * double(n * k % length) /
                       double(fourier.isInverse ? length : -length);
        std::complex<double> factor = std::polar(1.0, angle);
        if (part == 1)
          factor *= std::complex<double>(0, 1);
        if (fourier.isInverse)
          factor /= double(length);
        // The other half of the spectrum is the conjugate of this one.
        if (fourier.numParts() == 1 && n != 0 && 2 * n != length)
          factor *= 2;
        values.push_back(b.getFloatAttr(type, factor.real()));
        if (fourier.numParts() == 2)
          values.push_back(b.getFloatAttr(type, factor.imag()));
      }
  int64_t shape[] = {numOperands * parts, numResults * fourier.numParts()};
  return b.constant(
      DenseElementsAttr::get(RankedTensorType::get(shape, type), values));
}

/// The same of a length that only a run tells.
static Tensor computeFourierMatrix(B &b, const Fourier &fourier, int64_t parts,
                                   FloatType type) {
  Type f64 = b.getF64Type();
  auto number = [&](double value) { return b.number(value, f64); };
  Value length = b.index(fourier.length), count = toNumber(b, length, f64);
  Dims dims = {b.mul(fourier.numOperands(b), b.dim(parts)),
               b.mul(fourier.numResults(b), b.dim(fourier.numParts()))};
  return b.generate(dims, type, [&](ValueRange i) {
    auto split = [&](Value index, int64_t parts) {
      Value size = b.index(parts);
      return std::pair(b.createOrFold<arith::DivUIOp>(index, size),
                       b.createOrFold<arith::RemUIOp>(index, size));
    };
    auto [n, part] = split(i[0], parts);
    auto [k, resultPart] = split(i[1], fourier.numParts());
    Value turn = b.createOrFold<arith::RemUIOp>(b.mul(n, k), length);
    Value angle =
        b.div(b.mul(toNumber(b, turn, f64),
                    number((fourier.isInverse ? 2 : -2) * std::numbers::pi)),
              count);
    Value cosine = math::CosOp::create(b, angle),
          sine = math::SinOp::create(b, angle);
    // An imaginary part of the operand is turned by i.
    Value isImaginary = b.compare(Compare::EQ, part, b.index(1)),
          real = b.select(isImaginary, b.neg(sine), cosine),
          imaginary = b.select(isImaginary, cosine, sine);
    Value factor = b.select(b.compare(Compare::EQ, resultPart, b.index(1)),
                            imaginary, real);
    if (fourier.isInverse)
      factor = b.div(factor, count);
    if (fourier.numParts() == 1) {
      Value isAlone = b.createOrFold<arith::OrIOp>(
          b.compare(Compare::EQ, n, b.index(0)),
          b.compare(Compare::EQ, b.add(n, n), length));
      factor = b.mul(factor, b.select(isAlone, number(1), number(2)));
    }
    return b.castScalar(factor, f64, type);
  });
}

/// Along dimension `axis` of x, whose last one is the parts of a number: one
/// product with a matrix.
static FailureOr<Tensor> transform(B &b, Tensor x, int64_t axis,
                                   const Fourier &fourier) {
  constexpr int64_t kMaxLength = 4096; // the matrix is 128 MiB then
  int64_t rank = x.rank(), parts = x.size(rank - 1);
  std::optional<int64_t> length = getConstantIntValue(fourier.length);
  if (length && (*length < 1 || *length > kMaxLength))
    return b.error() << "a transform of length " << *length
                     << " is not supported";
  if (parts != 1 && parts != 2)
    return b.error() << "the last dimension has neither real nor complex "
                        "numbers";
  if (!length) {
    Value beyond = b.sub(b.index(fourier.length), b.index(1));
    b.require(b.compare(Compare::LT, beyond, b.index(kMaxLength),
                        /*isUnsigned=*/true),
              "a Fourier transform has another length than 1 to 4096");
  }
  auto type = cast<FloatType>(getComputeType(x.element));
  // What is too long is cut off, what is missing zero.
  Dims dims = b.dims(x), zeros(rank, b.dim(0)), after = zeros;
  Dim size = dims[axis], wanted = fourier.numOperands(b);
  dims[axis] = b.min(size, wanted);
  after[axis] = b.sub(wanted, dims[axis]);
  x = b.pad(b.slice(b.cast(x, type), zeros, dims), zeros, after,
            b.number(0, type));

  SmallVector<int64_t> order = llvm::to_vector(llvm::seq(rank)), inverse(rank);
  std::rotate(order.begin() + axis, order.begin() + axis + 1, order.end() - 1);
  for (auto [to, from] : llvm::enumerate(order))
    inverse[from] = to;
  x = b.transpose(x, order);
  Dims moved = b.dims(x);
  Dim rows = b.product(ArrayRef(moved).drop_back(2));
  Tensor matrix = length ? makeFourierMatrix(b, fourier, parts, type, *length)
                         : computeFourierMatrix(b, fourier, parts, type);
  FailureOr<Tensor> product =
      matmul(b, b.reshape(x, {rows, b.dim(matrix, 0)}), matrix, type);
  if (failed(product))
    return failure();
  moved[rank - 2] = fourier.numResults(b);
  moved[rank - 1] = b.dim(fourier.numParts());
  return b.transpose(b.reshape(*product, moved), inverse);
}

/// The scalar of an input as a constant, or as what a run tells.
static Dim toDim(B &b, Tensor scalar) {
  return b.toDims(b.reshape(scalar, {}))[0];
}

/// Dimension `axis`, which only a run tells, in the place of `place`, and this
/// one in its.
static Tensor swapDims(B &b, Tensor x, Value axis, int64_t place) {
  auto isAxis = [&](int64_t i) {
    return b.compare(Compare::EQ, axis, b.index(i));
  };
  auto swap = [&](B::Values values) {
    B::Values swapped = values;
    for (int64_t i = 0; i < place; ++i) {
      swapped[i] = b.select(isAxis(i), values[place], values[i]);
      swapped[place] = b.select(isAxis(i), values[i], swapped[place]);
    }
    return swapped;
  };
  B::Values sizes;
  for (Dim dim : b.dims(x))
    sizes.push_back(b.index(dim));
  return b.generate(getAsOpFoldResult(swap(sizes)), x.element,
                    [&](ValueRange i) { return b.at(x, swap(B::Values(i))); });
}

static LogicalResult lowerDFT(B &b) {
  Tensor x = b.input(0);
  int64_t axis = b.getInt("axis", b.version() < 20 ? 1 : -2);
  if (x.rank() < 2)
    return b.error() << "an operand of rank " << x.rank();
  Value runtimeAxis;
  if (b.has(2)) {
    Dim given = toDim(b, b.input(2));
    axis = getConstantIntValue(given).value_or(-2);
    if (auto value = dyn_cast<Value>(given)) {
      Value isNegative = b.compare(Compare::LT, value, b.index(0));
      runtimeAxis =
          b.select(isNegative, b.add(value, b.index(x.rank())), value);
      b.require(b.compare(Compare::LT, runtimeAxis, b.index(x.rank() - 1),
                          /*isUnsigned=*/true),
                "DFT has an axis that its operand lacks");
      x = swapDims(b, x, runtimeAxis, x.rank() - 2);
    }
  }
  FailureOr<int64_t> dim = b.normalizeAxis(axis, x.rank());
  if (failed(dim))
    return failure();
  if (*dim == x.rank() - 1)
    return b.error() << "axis " << axis << " is that of complex numbers";
  Fourier fourier = {b.dim(x, *dim), b.getInt("inverse", 0) != 0,
                     b.getInt("onesided", 0) != 0};
  if (fourier.isHalfRead())
    fourier.length = b.mul(b.sub(fourier.length, b.dim(1)), b.dim(2));
  if (b.has(1))
    fourier.length = toDim(b, b.input(1));
  FailureOr<Tensor> result = transform(b, x, *dim, fourier);
  if (failed(result))
    return failure();
  if (runtimeAxis)
    result = swapDims(b, *result, runtimeAxis, x.rank() - 2);
  return b.result(b.cast(*result, x.element));
}

/// Spectra of parts of a signal [batch, time, 1 or 2], which begin
/// `frame_step` elements after each other.
static LogicalResult lowerSTFT(B &b) {
  Tensor x = b.input(0), window = b.has(2) ? b.input(2) : Tensor();
  if (x.rank() != 3)
    return b.error() << "the signal has another rank than 3";
  Dim size = b.has(3) ? toDim(b, b.input(3))
             : window ? b.dim(window, 0)
                      : b.dim(x, 1);
  Type type = getComputeType(x.element);
  Dims dims = b.dims(x);
  Dim step = b.max(toDim(b, b.input(1)), b.dim(1)), room = b.sub(dims[1], size);
  b.require(b.compare(Compare::LT, b.index(room), b.index(dims[1]),
                      /*isUnsigned=*/true),
            "a frame is empty or longer than the signal");
  if (window)
    b.requireEqual(b.dim(window, 0), size, "the window does not fit a frame");
  Dim count = b.add(b.div(room, step), b.dim(1));
  Tensor frames =
      b.generate({dims[0], count, size, dims[2]}, type, [&](ValueRange i) {
        Value at = b.add(b.mul(i[1], b.index(step)), i[2]);
        Value value = b.load(b.at(x, {i[0], at, i[3]}), x.element);
        if (!window)
          return value;
        return b.mul(value, b.load(b.at(window, i[2]), window.element));
      });
  Fourier fourier = {size, /*isInverse=*/false, b.getInt("onesided", 1) != 0};
  FailureOr<Tensor> result = transform(b, frames, 2, fourier);
  return failed(result) ? failure() : b.result(b.cast(*result, x.element));
}

static const LoweringRow kRows[] = {
    {"BlackmanWindow", [](B &b) { return setWindow(b, {0.42, -0.5, 0.08}); }},
    {"DFT", lowerDFT},
    {"HammingWindow",
     [](B &b) { return setWindow(b, {25.0 / 46, -21.0 / 46, 0}); }},
    {"HannWindow", [](B &b) { return setWindow(b, {0.5, -0.5, 0}); }},
    {"MelWeightMatrix", lowerMelWeightMatrix},
    {"STFT", lowerSTFT},
};

ArrayRef<LoweringRow> tercet::getSignalLowerings() { return kRows; }
