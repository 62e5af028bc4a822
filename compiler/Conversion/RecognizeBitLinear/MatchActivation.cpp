// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Types of nodes are hints and not used. That everything is f32 follows from
// constants: the operands of an arithmetic node have one type, and only f32
// constants match.

#include "compiler/Conversion/RecognizeBitLinear/MatchActivation.h"

#include "dialect/ONNX/ONNX.h"

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

using Term = ActivationTerm;

/// TensorProto.DataType, as `Cast` has it.
enum DataType { kFloat = 1, kInt8 = 3, kInt16 = 5, kInt32 = 6, kInt64 = 7 };

/// Expressions are a handful of nodes; what is nested deeper is none of them.
static constexpr int kMaxDepth = 12;

/// Whether a product of constants is `expected`, but for the rounding of each.
static bool isNear(double value, double expected) {
  return std::fabs(value - expected) <= 0x1p-22 * expected;
}

static Operation *getNode(Value value, StringRef name) {
  Operation *op = value.getDefiningOp();
  return op && onnx::getOpName(op) == name ? op : nullptr;
}

bool tercet::isCastToF32(Operation *op) {
  return onnx::getOpName(op) == "Cast" && onnx::getInt(op, "to", 0) == kFloat;
}

std::optional<double> tercet::getScalar(Value value) {
  auto constant = dyn_cast_or_null<DenseElementsAttr>(onnx::getConstant(value));
  if (!constant || constant.getNumElements() != 1 ||
      constant.getType().getRank() > 1 || !constant.getElementType().isF32())
    return std::nullopt;
  return *constant.value_begin<float>();
}

std::optional<Term> tercet::operator*(const Term &a, const Term &b) {
  if (a.x && b.x &&
      (a.x != b.x || a.bound != b.bound || (a.isQuantized && b.isQuantized)))
    return std::nullopt;
  Term product = a.x ? a : b;
  product.factor = a.factor * b.factor;
  product.power = a.power + b.power;
  product.isQuantized = a.isQuantized || b.isQuantized;
  return product;
}

Term tercet::reciprocal(Term term) {
  term.factor = 1 / term.factor;
  term.power = -term.power;
  return term;
}

template <typename... Ts>
std::nullopt_t ActivationMatcher::fail(const char *format, Ts... numbers) {
  if (reason.empty())
    llvm::raw_string_ostream(reason) << llvm::format(format, numbers...);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Absmax
//===----------------------------------------------------------------------===//

/// The axes of a reduction or an Unsqueeze, in the order of the file; empty: it
/// has none, or they are no constant.
static SmallVector<int64_t> getAxes(Operation *op) {
  if (std::optional<ArrayRef<int64_t>> axes = onnx::getInts(op, "axes"))
    return llvm::to_vector(*axes);
  if (op->getNumOperands() < 2)
    return {};
  auto axes = dyn_cast_or_null<DenseIntElementsAttr>(
      onnx::getConstant(op->getOperand(1)));
  if (!axes)
    return {};
  return llvm::map_to_vector(axes.getValues<APInt>(), [](const APInt &axis) {
    return axis.getSExtValue();
  });
}

static std::optional<int64_t> getAxis(Operation *op) {
  SmallVector<int64_t> axes = getAxes(op);
  return axes.size() == 1 ? std::optional(axes.front()) : std::nullopt;
}

/// The operand of a ReduceMax or ReduceMin that keeps the axis, and the axis.
static std::optional<std::pair<Value, std::optional<int64_t>>>
matchReduction(Operation *op, StringRef name) {
  std::optional<int64_t> kept;
  if (onnx::getOpName(op) == "Unsqueeze") {
    kept = getAxis(op);
    op = op->getOperand(0).getDefiningOp();
  }
  if (!op || onnx::getOpName(op) != name ||
      onnx::getInt(op, "keepdims", 1) == kept.has_value())
    return std::nullopt;
  std::optional<int64_t> axis = getAxis(op);
  if (kept && kept != axis)
    return std::nullopt;
  return std::pair(op->getOperand(0), axis);
}

/// max |x| as ReduceMax(Abs(x)) or Max(ReduceMax(x), Neg(ReduceMin(x))).
std::optional<Term> ActivationMatcher::matchAbsmax(Operation *op) {
  Term term;
  std::optional<int64_t> axis;
  if (auto reduction = matchReduction(op, "ReduceMax")) {
    Operation *abs = getNode(reduction->first, "Abs");
    if (!abs)
      return std::nullopt;
    term.x = abs->getOperand(0);
    axis = reduction->second;
  } else if (onnx::getOpName(op) == "Max" && op->getNumOperands() == 2) {
    Operation *negated = nullptr, *other = nullptr;
    for (unsigned i : {0, 1})
      if (Operation *neg = getNode(op->getOperand(i), "Neg")) {
        negated = neg->getOperand(0).getDefiningOp();
        other = op->getOperand(1 - i).getDefiningOp();
      }
    if (!negated || !other)
      return std::nullopt;
    auto smallest = matchReduction(negated, "ReduceMin");
    auto largest = matchReduction(other, "ReduceMax");
    if (!smallest || smallest != largest)
      return std::nullopt;
    std::tie(term.x, axis) = *largest;
  } else {
    return std::nullopt;
  }
  if (!axis)
    return fail("the absmax of the activations is not over one axis");
  auto type = dyn_cast<RankedTensorType>(term.x.getType());
  if (*axis != -1 && !(type && *axis == type.getRank() - 1))
    return fail("the absmax of the activations is not over their last axis");
  term.axis = *axis;
  term.power = 1;
  return term;
}

//===----------------------------------------------------------------------===//
// Bounds
//===----------------------------------------------------------------------===//

namespace {
/// max(min(operand, upper), lower).
struct Clamp {
  Value operand;
  double lower = -INFINITY, upper = INFINITY;
};
} // namespace

/// Clip with constant bounds, Max or Min with a constant.
static std::optional<Clamp> matchClamp(Operation *op) {
  StringRef name = onnx::getOpName(op);
  Clamp clamp;
  if (name == "Clip") {
    clamp.operand = op->getOperand(0);
    clamp.lower = onnx::getFloat(op, "min", clamp.lower);
    clamp.upper = onnx::getFloat(op, "max", clamp.upper);
    for (unsigned i = 1; i < op->getNumOperands(); ++i) {
      if (onnx::isNone(op->getOperand(i)))
        continue;
      std::optional<double> bound = getScalar(op->getOperand(i));
      if (!bound)
        return std::nullopt;
      (i == 1 ? clamp.lower : clamp.upper) = *bound;
    }
    return clamp;
  }
  if ((name != "Max" && name != "Min") || op->getNumOperands() != 2)
    return std::nullopt;
  for (unsigned i : {0, 1})
    if (std::optional<double> value = getScalar(op->getOperand(1 - i))) {
      clamp.operand = op->getOperand(i);
      (name == "Max" ? clamp.lower : clamp.upper) = *value;
      return clamp;
    }
  return std::nullopt;
}

/// An absmax, or its product with a constant, with the bound of the canonical
/// one.
std::optional<Term> ActivationMatcher::matchBound(Operation *op) {
  std::optional<Clamp> clamp = matchClamp(op);
  if (!clamp || clamp->upper < std::numeric_limits<float>::max())
    return std::nullopt;
  std::optional<Term> term = match(clamp->operand);
  if (!term || term->isQuantized || term->power != 1 || term->bound != 0)
    return std::nullopt;
  double bound = clamp->lower / term->factor;
  if (!isNear(bound, 1e-5))
    return fail(
        "the absmax of the activations has the lower bound %g, not 1e-05",
        bound);
  term->bound = 1e-5;
  return term;
}

//===----------------------------------------------------------------------===//
// Quantised activations
//===----------------------------------------------------------------------===//

/// Takes clamps off; `bounds` is what all of them together leave.
static Value dropClamps(Value value, Clamp &bounds) {
  while (Operation *op = value.getDefiningOp()) {
    std::optional<Clamp> clamp = matchClamp(op);
    if (!clamp)
      break;
    bounds.lower = std::max(bounds.lower, clamp->lower);
    bounds.upper = std::min(bounds.upper, clamp->upper);
    value = clamp->operand;
  }
  return value;
}

/// Round(x * s) or Round(x / d) with s = 127 / a, d = a / 127, clipped before
/// or after or not at all: only -127..127 occur.
std::optional<Term> ActivationMatcher::matchRound(Operation *op) {
  Clamp bounds;
  Operation *round = getNode(dropClamps(op->getResult(0), bounds), "Round");
  if (!round)
    return std::nullopt;
  Value scaled = dropClamps(round->getOperand(0), bounds);
  if (bounds.lower > -127 || bounds.upper < 127)
    return fail("activations are clipped to %g..%g", bounds.lower,
                bounds.upper);

  Operation *product = scaled.getDefiningOp();
  StringRef name = product ? onnx::getOpName(product) : "";
  if (name != "Mul" && name != "Div")
    return fail("activations are rounded, but not scaled before");
  for (unsigned i : {0, 1}) {
    if (name == "Div" && i == 0)
      continue;
    std::optional<Term> scale = match(product->getOperand(i));
    if (!scale || scale->isQuantized || scale->x != product->getOperand(1 - i))
      continue;
    if (name == "Div")
      scale = reciprocal(*scale);
    if (scale->bound == 0)
      return fail("the absmax of the activations has no lower bound");
    if (scale->power != -1 || !isNear(scale->factor, 127))
      return fail("activations are not scaled by 127 / absmax");
    scale->factor = 1;
    scale->power = 0;
    scale->isQuantized = true;
    return scale;
  }
  return fail("activations are rounded, but not scaled by their absmax");
}

//===----------------------------------------------------------------------===//
// Terms
//===----------------------------------------------------------------------===//

std::optional<Term> ActivationMatcher::match(Value value) {
  if (std::optional<double> scalar = getScalar(value))
    return Term{{}, *scalar};
  Operation *op = value.getDefiningOp();
  if (!op || depth == kMaxDepth)
    return std::nullopt;
  ++depth;
  std::optional<Term> term = matchNode(op);
  --depth;
  return term;
}

std::optional<Term> ActivationMatcher::matchNode(Operation *op) {
  StringRef name = onnx::getOpName(op);
  if (name == "Reciprocal") {
    std::optional<Term> term = match(op->getOperand(0));
    if (!term || term->isQuantized)
      return std::nullopt;
    return reciprocal(*term);
  }
  if (name == "Mul" || name == "Div") {
    std::optional<Term> a = match(op->getOperand(0));
    std::optional<Term> b = a ? match(op->getOperand(1)) : std::nullopt;
    if (!b || (name == "Div" && b->isQuantized))
      return std::nullopt;
    return *a * (name == "Mul" ? *b : reciprocal(*b));
  }
  if (name == "Cast") {
    // Of quantised values to integers and back.
    std::optional<Term> term = match(op->getOperand(0));
    bool isPlain =
        term && term->isQuantized && term->factor == 1 && term->power == 0;
    switch (onnx::getInt(op, "to", 0)) {
    case kFloat:
      return term;
    case kInt8:
    case kInt16:
    case kInt32:
    case kInt64:
      return isPlain ? term : std::nullopt;
    }
    return std::nullopt;
  }
  if (std::optional<Term> absmax = matchAbsmax(op))
    return absmax;
  if (std::optional<Term> bounded = matchBound(op))
    return bounded;
  if (name == "Round" || matchClamp(op))
    return matchRound(op);
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

/// Whether a reduction keeps its dimensions and is over all of `axes`.
static bool reducesTo(Operation *op, const SummedAxes &summed) {
  if (!op->hasAttr("axes") &&
      (op->getNumOperands() < 2 || onnx::isNone(op->getOperand(1))))
    return true; // to a scalar
  SmallVector<int64_t> axes = getAxes(op);
  for (int64_t &axis : axes)
    if (axis < 0)
      axis += summed.rank;
  llvm::sort(axes);
  return onnx::getInt(op, "keepdims", 1) && axes == summed.axes;
}

/// Whether a value is one number along `axes`: a constant, or arithmetic of
/// reductions.
static bool isUniform(Value value, const SummedAxes &axes, int depth = 0) {
  if (getScalar(value))
    return true;
  Operation *op = value.getDefiningOp();
  if (!op || depth == kMaxDepth)
    return false;
  StringRef name = onnx::getOpName(op);
  if (name.starts_with("Reduce"))
    return reducesTo(op, axes);
  bool isElementwise =
      llvm::is_contained({"Abs", "Add", "Cast", "Clip", "Div", "Max", "Min",
                          "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"},
                         name);
  return isElementwise && llvm::all_of(op->getOperands(), [&](Value operand) {
           return onnx::isNone(operand) || isUniform(operand, axes, depth + 1);
         });
}

/// Whether a value is rounded and clipped to -128..127.
static bool isRounded(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (onnx::getOpName(op) != "Cast")
      break;
    value = op->getOperand(0);
  }
  Clamp bounds;
  Operation *round = getNode(dropClamps(value, bounds), "Round");
  if (!round)
    return false;
  dropClamps(round->getOperand(0), bounds);
  return bounds.lower >= -128 && bounds.upper <= 127;
}

/// DequantizeLinear with constants for all of the tensor.
static std::optional<IntegerActivation> matchDequantize(Operation *op) {
  std::optional<double> scale = getScalar(op->getOperand(1));
  if (!scale || op->getNumOperands() < 3)
    return std::nullopt;
  auto zero = dyn_cast_or_null<DenseIntElementsAttr>(
      onnx::getConstant(op->getOperand(2)));
  if (!zero || !zero.getElementType().isInteger(8) ||
      zero.getNumElements() != 1)
    return std::nullopt;
  APInt value = *zero.value_begin<APInt>();
  bool isUnsigned = zero.getElementType().isUnsignedInteger();
  return IntegerActivation{op->getOperand(0),
                           isUnsigned ? int64_t(value.getZExtValue()) - 128
                                      : value.getSExtValue(),
                           *scale};
}

std::optional<IntegerActivation>
tercet::matchIntegers(Value value, const SummedAxes &summedAxes) {
  if (isRounded(value))
    return IntegerActivation{value};
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  StringRef name = onnx::getOpName(op);
  if (name == "DequantizeLinear")
    return matchDequantize(op);
  if (name != "Mul" && name != "Div")
    return std::nullopt;
  for (unsigned i : {0, 1}) {
    if (name == "Div" && i == 1)
      continue;
    Value scale = op->getOperand(1 - i);
    if (isRounded(op->getOperand(i)) && isUniform(scale, summedAxes))
      return IntegerActivation{op->getOperand(i), 0, 1, scale, name == "Div"};
  }
  return std::nullopt;
}
