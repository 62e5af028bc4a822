// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/Interpreter.h"
#include "compiler/Support/PackedLayout.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Parallel.h"

#include <numeric>
#include <optional>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;
using namespace tercet::ternary;

using Values = Interpreter::Values;

static Error failure(mlir::Operation *op, const Twine &message) {
  std::string location;
  raw_string_ostream(location) << op->getLoc();
  return createStringError(location + ": " + op->getName().getStringRef() +
                           ": " + message);
}

/// The results of an op that may fail.
template <typename T> static Expected<Values> single(Expected<T> result) {
  if (!result)
    return result.takeError();
  return Values{Value(std::move(*result))};
}

bool reference::bitEqual(const Value &a, const Value &b) {
  return a.visit([&](auto &left) {
    using T = std::remove_cvref_t<decltype(left)>;
    if constexpr (std::is_same_v<T, KVCache>) {
      return b.is<KVCache>();
    } else {
      if (!b.is<const T>())
        return false;
      return b.visit([&](auto &right) {
        if constexpr (std::is_same_v<T, std::remove_cvref_t<decltype(right)>>)
          return left.shape == right.shape &&
                 !memcmp(left.data.data(), right.data.data(),
                         left.data.size() * sizeof(left.data[0]));
        return false;
      });
    }
  });
}

//===----------------------------------------------------------------------===//
// Arrays by type
//===----------------------------------------------------------------------===//

/// An array of `shape` for the element type, filled by `fill`; nullopt for a
/// type that no value has.
template <typename Function>
static std::optional<Value>
makeArray(mlir::Type element, ArrayRef<int64_t> shape, Function &&fill) {
  auto make = [&](auto array) {
    fill(array);
    return Value(std::move(array));
  };
  if (isa<mlir::FloatType>(element))
    return make(Floats(shape));
  if (element.isInteger(32))
    return make(Ints(shape));
  if (element.isInteger(16))
    return make(Shorts(shape));
  if (element.isInteger(8) || element.isInteger(2))
    return make(Bytes(shape));
  if (element.isIndex() || element.isInteger(64) || element.isInteger(1))
    return make(Indices(shape));
  return std::nullopt;
}

static std::optional<Value> makeConstant(mlir::Attribute value) {
  if (auto literal = dyn_cast<mlir::DenseElementsAttr>(value))
    return makeArray(
        literal.getElementType(), literal.getType().getShape(),
        [&](auto &array) {
          using T = std::remove_reference_t<decltype(array.data[0])>;
          if constexpr (std::is_same_v<T, float>)
            for (auto [from, to] :
                 zip(literal.getValues<APFloat>(), array.data))
              to = float(from.convertToDouble());
          else
            for (auto [from, to] : zip(literal.getValues<APInt>(), array.data))
              to = T(from.getSExtValue());
        });
  auto number = dyn_cast<mlir::TypedAttr>(value);
  if (!number)
    return std::nullopt;
  return makeArray(number.getType(), {}, [&](auto &array) {
    using T = std::remove_reference_t<decltype(array.data[0])>;
    if constexpr (std::is_same_v<T, float>)
      array.data = {float(cast<mlir::FloatAttr>(number).getValueAsDouble())};
    else
      array.data = {T(cast<mlir::IntegerAttr>(number).getInt())};
  });
}

Expected<Value> Interpreter::getParameter(ParameterOp parameter) {
  auto [entry, isNew] = parameters.try_emplace(parameter);
  if (!isNew)
    return entry->second;
  auto type = cast<mlir::RankedTensorType>(parameter.getType());
  if (!type.getElementType().isInteger(2)) {
    Floats floats(type.getShape());
    if (Error error =
            reader.readFloats(parameter, 0, floats.data.size(), floats.data))
      return std::move(error);
    return entry->second = std::move(floats);
  }
  Bytes trits(type.getShape());
  if (Error error =
          reader.readTrits(parameter, 0, type.getDimSize(0), trits.data))
    return std::move(error);
  return entry->second = std::move(trits);
}

Expected<Value> Interpreter::readPackedParameter(mlir::ShapedType type,
                                                 int64_t offset) {
  int64_t size =
      type.getNumElements() * type.getElementTypeBitWidth() / CHAR_BIT;
  if (offset < 0 || size > int64_t(weights.size()) - offset)
    return createStringError("outside the weights section");
  const uint8_t *bytes = weights.data() + offset;
  if (isa<mlir::FloatType>(type.getElementType())) {
    Encoding encoding = type.getElementType().isF32()    ? Encoding::F32
                        : type.getElementType().isBF16() ? Encoding::BF16
                                                         : Encoding::F16;
    Floats floats(type.getShape());
    decodeFloats(encoding, bytes, /*begin=*/0, floats.data);
    return floats;
  }
  assert(type.getElementType().isInteger(8) && "packed bytes or floats");
  Bytes result(type.getShape());
  memcpy(result.data.data(), bytes, size);
  return result;
}

//===----------------------------------------------------------------------===//
// Ops of the ternary dialect
//===----------------------------------------------------------------------===//

/// Shape of an op's destination, which is all that an op takes from it.
static ArrayRef<int64_t> shapeOf(const Value &value) {
  return value.visit([](auto &array) -> ArrayRef<int64_t> {
    if constexpr (requires { array.shape; })
      return array.shape;
    return {};
  });
}
static int64_t widthOf(const Value &value) { return shapeOf(value)[1]; }

static SmallVector<int64_t> getRowCounts(ArrayRef<Value> weights) {
  return map_to_vector(weights, [](const Value &w) { return shapeOf(w)[0]; });
}

/// [N, width], or with `group` [N, groups, width].
static Ints multiply(const Bytes &q, ArrayRef<Value> weights, int64_t width,
                     std::optional<int64_t> group) {
  SmallVector<int64_t> shape = {q.shape[0], width};
  if (group)
    shape.insert(shape.begin() + 1,
                 divideCeil(weights[0].bytes().shape[1], *group));
  Ints acc(shape);
  SmallVector<int64_t> columns = getColumnOffsets(getRowCounts(weights));
  for (auto [weight, column] : zip(weights, columns))
    matmul(q, weight.bytes(), column, acc, group);
  return acc;
}

static Floats rescaleMatrices(const Ints &acc, const Floats &activationScale,
                              ArrayRef<Value> scales, ArrayRef<int64_t> rows) {
  Floats y({acc.shape.front(), acc.shape.back()});
  bool hasGroups = acc.shape.size() == 3;
  SmallVector<int64_t> columns = getColumnOffsets(rows);
  for (auto [scale, column, count] : zip(scales, columns, rows))
    if (hasGroups)
      rescaleGroups(acc, activationScale, scale.floats(), column, y);
    else
      rescale(acc, activationScale, scale.floats().data[0], column,
              column + count, y);
  return y;
}

static Floats bitLinear(const Floats &x, ArrayRef<Value> weights,
                        ArrayRef<Value> scales, int64_t width,
                        std::optional<int64_t> group) {
  Quantised quantised = quantizeActivations(x, x.shape[1]);
  Ints acc = multiply(quantised.q, weights, width, group);
  return rescaleMatrices(acc, quantised.scale, scales, getRowCounts(weights));
}

/// matmul and rescale with a weight scale for 16 rows, or for each row and
/// group of columns.
static Floats packedMatmul(LayoutAttr layout, std::optional<int64_t> group,
                           ArrayRef<Value> operands) {
  const Floats &scale = operands[1].floats(),
               &weightScales = operands[4].floats();
  // Dimensions of tokens, and of columns, as one.
  int64_t tokens = scale.data.size();
  Bytes q = operands[0].bytes();
  q.shape = {tokens, int64_t(q.data.size()) / std::max<int64_t>(tokens, 1)};
  int64_t width = widthOf(operands[5]);
  Ints acc = multiply(
      q, Value(unpackTrits(operands[3].bytes(), layout, width, q.shape[1])),
      width, group);
  Floats y({q.shape[0], width});
  auto finish = [&] {
    y.shape.assign(scale.shape.begin(), scale.shape.end());
    y.shape.push_back(width);
    return std::move(y);
  };
  if (group) {
    rescaleGroups(acc, scale, unpackGroupScales(weightScales), 0, y);
    return finish();
  }
  for (int64_t row = 0; row < width; row += kRowGroup)
    rescale(acc, scale, weightScales.data[row / kRowGroup], row,
            row + kRowGroup, y);
  return finish();
}

static Expected<Values> executeTernary(mlir::Operation *op,
                                       ArrayRef<Value> in) {
  using Result = Expected<Values>;
  return TypeSwitch<mlir::Operation *, Result>(op)
      .Case([&](AbsmeanQuantizeOp) -> Result {
        Trits result = absmeanQuantize(in[0].floats());
        return Values{std::move(result.trits), Floats({}, {result.scale})};
      })
      .Case([&](BitLinearOp linear) -> Result {
        size_t count = linear.getWeights().size();
        return Values{bitLinear(in[0].floats(), in.slice(1, count),
                                in.slice(1 + count, count), widthOf(in.back()),
                                linear.getGroup())};
      })
      .Case([&](QuantizeActivationsOp quantize) -> Result {
        Quantised result = quantizeActivations(in[0].floats(), widthOf(in[1]),
                                               quantize.getGroup());
        return Values{std::move(result.q), std::move(result.scale),
                      std::move(result.sum)};
      })
      .Case([&](MatmulOp matmul) -> Result {
        return Values{multiply(in[0].bytes(), in.drop_front().drop_back(),
                               shapeOf(in.back()).back(), matmul.getGroup())};
      })
      .Case([&](RescaleOp rescale) -> Result {
        return Values{rescaleMatrices(in[0].ints(), in[1].floats(),
                                      in.drop_front(2).drop_back(),
                                      rescale.getRows())};
      })
      .Case([&](EmbeddingOp embeddingOp) -> Result {
        if (shapeOf(in[1]).size() == 2)
          return single(embedding(in[0].ints(), in[1].floats()));
        // The rows that a table of bytes holds: whole tiles.
        LayoutAttr layout = *embeddingOp.getLayout();
        int64_t width = widthOf(in[2]), numBytes = in[1].bytes().data.size();
        int64_t rows =
            numBytes / layout.getTileBytes(width) * layout.getTileRows();
        return single(embedding(
            in[0].ints(), unpackFloats(in[1].bytes(), layout, rows, width)));
      })
      .Case([&](RMSNormOp norm) -> Result {
        return Values{rmsNorm(in[0].floats(), in[1].floats(),
                              norm.getEpsilon().convertToFloat())};
      })
      .Case([&](RopeOp) -> Result {
        return single(rope(in[0].floats(), in[1].ints(), in[2].floats()));
      })
      .Case([&](KVUpdateOp) -> Result {
        if (Error error = kvUpdate(in[0].floats(), in[1].floats(), in[2].ints(),
                                   in[3].ints(), in[4].cache(), in[5].index()))
          return std::move(error);
        return Values{};
      })
      .Case([&](AttentionOp attentionOp) -> Result {
        return single(attention(in[0].floats(), in[1].ints(), in[2].ints(),
                                in[3].cache(), in[4].index(),
                                attentionOp.getScale().convertToFloat()));
      })
      .Case([&](GatedActivationOp gated) -> Result {
        return Values{gatedActivation(gated.getActivation(), in[0].floats(),
                                      in[1].floats())};
      })
      .Case([&](GatherRowsOp) -> Result {
        return single(gatherRows(in[0].floats(), in[1].ints()));
      })
      .Case([&](LinearOp linearOp) -> Result {
        if (linearOp.getGroups())
          return single(linear(in[0].floats(), in[1].floats(), in[2].ints(),
                               in[3].floats()));
        return Values{linear(in[0].floats(), in[1].floats(), widthOf(in[2]))};
      })
      .Case([&](QuantizedLinearOp linear) -> Result {
        const Floats &weight = in[1].floats();
        CodeFormat format = linear.getFormat();
        return Values{quantizedLinear(
            quantizeWide(in[0].floats(), getCodeFormatInfo(format).group),
            encodeRows(format, weight.data, weight.shape[1]), widthOf(in[2]))};
      })
      .Case([&](QuantizeWideOp wide) -> Result {
        WideActivations result = quantizeWide(in[0].floats(), wide.getGroup());
        return Values{std::move(result.high), std::move(result.low),
                      std::move(result.scale), std::move(result.sums)};
      })
      .Case([&](PackedQuantizedLinearOp packed) -> Result {
        WideActivations x{in[0].bytes(), in[1].bytes(), in[2].floats(),
                          in[3].ints()};
        const Bytes &weights = in[4].bytes();
        ArrayRef bytes(reinterpret_cast<const uint8_t *>(weights.data.data()),
                       weights.data.size());
        int64_t width = widthOf(in[5]);
        return Values{quantizedLinear(
            x, unpackCodes(packed.getLayout(), bytes, width, widthOf(in[0])),
            width)};
      })
      .Case([&](PackedMatmulOp matmul) -> Result {
        return Values{packedMatmul(matmul.getLayout(), matmul.getGroup(), in)};
      })
      .Case([&](PackedLinearOp packed) -> Result {
        int64_t width = widthOf(in.back());
        Floats weight = unpackFloats(in[1].bytes(), packed.getLayout(), width,
                                     widthOf(in[0]));
        if (packed.getGroups())
          return single(
              linear(in[0].floats(), weight, in[2].ints(), in[3].floats()));
        return Values{linear(in[0].floats(), weight, width)};
      })
      .Case([&](UnpackOp unpackOp) -> Result {
        return Values{
            unpack(in[0].bytes(), unpackOp.getPlane(), unpackOp.getInPlace())};
      })
      .Case([&](DotOp) -> Result {
        return Values{dot(in[0].ints(), in[1].bytes(), in[2].bytes())};
      })
      .Case([&](DotSignedOp) -> Result {
        return Values{dotSigned(in[0].ints(), in[1].bytes(), in[2].bytes())};
      })
      .Case([&](DotPairsOp) -> Result {
        return Values{dotPairs(in[0].shorts(), in[1].bytes(), in[2].bytes())};
      })
      .Case([&](AddPairsOp) -> Result {
        return Values{addPairs(in[0].ints(), in[1].shorts())};
      })
      .Case([&](UnpackT5Op) -> Result {
        auto [fields, last] = unpackT5(in[0].bytes());
        return Values{std::move(fields), std::move(last)};
      })
      .Case([&](UnpackT3Op) -> Result {
        return Values{unpackT3(in[0].bytes(), in[1].bytes())};
      })
      .Case([&](LookupOp lookupOp) -> Result {
        if (lookupOp.getType().getElementType().isInteger(16))
          return Values{lookup(in[0].shorts(), in[1].shorts())};
        return Values{lookup(in[0].bytes(), in[1].bytes())};
      })
      .Default([](mlir::Operation *) -> Result {
        return createStringError("is not executable on tensors");
      });
}

//===----------------------------------------------------------------------===//
// Ops of upstream dialects
//===----------------------------------------------------------------------===//

/// Calls `visit(i)` with the linear offset of each element of a `sizes` box at
/// `offsets` (unit strides) of an array of `shape`, in row-major order.
static void forEachOffset(ArrayRef<int64_t> shape, ArrayRef<int64_t> offsets,
                          ArrayRef<int64_t> sizes,
                          function_ref<void(int64_t)> visit) {
  int64_t count = mlir::ShapedType::getNumElements(sizes);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, offset = 0, stride = 1;
    for (size_t dim = shape.size(); dim-- > 0;) {
      offset += (offsets[dim] + rest % sizes[dim]) * stride;
      rest /= sizes[dim];
      stride *= shape[dim];
    }
    visit(offset);
  }
}

/// Static and dynamic parts of a slice's offsets or sizes; the dynamic ones are
/// the next of `operands`.
static SmallVector<int64_t> resolve(ArrayRef<int64_t> values,
                                    ArrayRef<Value> &operands) {
  return map_to_vector(values, [&](int64_t value) {
    if (!mlir::ShapedType::isDynamic(value))
      return value;
    int64_t dynamic = operands.front().index();
    operands = operands.drop_front();
    return dynamic;
  });
}

/// The box that a slice op addresses, nullopt if it is not inside `shape` or
/// has strides.
struct Box {
  SmallVector<int64_t> offsets, sizes;
};
static std::optional<Box> resolveBox(mlir::OffsetSizeAndStrideOpInterface op,
                                     ArrayRef<int64_t> shape,
                                     ArrayRef<Value> dynamic) {
  Box box;
  box.offsets = resolve(op.getStaticOffsets(), dynamic);
  box.sizes = resolve(op.getStaticSizes(), dynamic);
  bool valid = all_of(op.getStaticStrides(), [](int64_t s) { return s == 1; });
  for (auto [offset, size, dim] : zip_equal(box.offsets, box.sizes, shape))
    valid &= offset >= 0 && size >= 0 && offset + size <= dim;
  return valid ? std::optional(box) : std::nullopt;
}

static Expected<Value> extractSlice(mlir::tensor::ExtractSliceOp op,
                                    ArrayRef<Value> in) {
  return in[0].visit([&](auto &source) -> Expected<Value> {
    using T = std::remove_cvref_t<decltype(source)>;
    if constexpr (std::is_same_v<T, KVCache>) {
      llvm_unreachable("a cache is no tensor");
    } else {
      auto box = resolveBox(op, source.shape, in.drop_front());
      if (!box)
        return createStringError("slice has strides or leaves its source");
      // Rank reduction drops unit dimensions, which moves no element.
      SmallVector<int64_t> shape = box->sizes;
      auto dropped = op.getDroppedDims();
      for (size_t dim = shape.size(); dim-- > 0;)
        if (dropped[dim])
          shape.erase(shape.begin() + dim);
      T result{ArrayRef<int64_t>(shape)};
      auto to = result.data.begin();
      forEachOffset(source.shape, box->offsets, box->sizes,
                    [&](int64_t from) { *to++ = source.data[from]; });
      return Value(std::move(result));
    }
  });
}

static Expected<Value> insertSlice(mlir::tensor::InsertSliceOp op,
                                   ArrayRef<Value> in) {
  return in[1].visit([&](auto &destination) -> Expected<Value> {
    using T = std::remove_cvref_t<decltype(destination)>;
    if constexpr (std::is_same_v<T, KVCache>) {
      llvm_unreachable("a cache is no tensor");
    } else {
      auto box = resolveBox(op, destination.shape, in.drop_front(2));
      if (!box)
        return createStringError("slice has strides or leaves its destination");
      T result = destination;
      in[0].visit([&](auto &source) {
        if constexpr (std::is_same_v<T,
                                     std::remove_cvref_t<decltype(source)>>) {
          auto from = source.data.begin();
          forEachOffset(result.shape, box->offsets, box->sizes,
                        [&](int64_t to) { result.data[to] = *from++; });
        }
      });
      return Value(std::move(result));
    }
  });
}

/// Index arithmetic. Division is checked, as the operands may be anything.
static Expected<Value> executeIndex(mlir::Operation *op, ArrayRef<Value> in) {
  using namespace mlir::arith;
  if (!all_of(op->getOperandTypes(), [](mlir::Type t) { return t.isIndex(); }))
    return createStringError("is supported on index only");
  int64_t a = in[0].index(), b = in.size() > 1 ? in[1].index() : 0;
  if (isa<DivUIOp, DivSIOp, RemUIOp, RemSIOp, CeilDivUIOp, CeilDivSIOp>(op) &&
      (a < 0 || b <= 0))
    return createStringError("division of " + Twine(a) + " by " + Twine(b));
  std::optional<int64_t> result =
      TypeSwitch<mlir::Operation *, std::optional<int64_t>>(op)
          .Case([&](AddIOp) { return a + b; })
          .Case([&](SubIOp) { return a - b; })
          .Case([&](MulIOp) { return a * b; })
          .Case<MinSIOp, MinUIOp>([&](auto) { return std::min(a, b); })
          .Case<MaxSIOp, MaxUIOp>([&](auto) { return std::max(a, b); })
          .Case<DivUIOp, DivSIOp>([&](auto) { return a / b; })
          .Case<RemUIOp, RemSIOp>([&](auto) { return a % b; })
          .Case<CeilDivUIOp, CeilDivSIOp>(
              [&](auto) { return int64_t(divideCeil(a, b)); })
          .Default([](mlir::Operation *) { return std::nullopt; });
  if (!result)
    return createStringError("is not supported by the interpreter");
  return Value::index(*result);
}

//===----------------------------------------------------------------------===//
// Control
//===----------------------------------------------------------------------===//

Expected<Values> Interpreter::execute(mlir::Operation *op, ArrayRef<Value> in) {
  using Result = Expected<Values>;
  if (isa<TernaryDialect>(op->getDialect()) &&
      !isa<GetParameterOp, PackedParameterOp>(op))
    return executeTernary(op, in);
  return TypeSwitch<mlir::Operation *, Result>(op)
      .Case([&](GetParameterOp get) -> Result {
        auto parameter =
            mlir::SymbolTable::lookupNearestSymbolFrom<ParameterOp>(
                get, get.getNameAttr());
        return single(getParameter(parameter));
      })
      .Case([&](PackedParameterOp packed) -> Result {
        auto type = cast<mlir::ShapedType>(packed.getType());
        return single(readPackedParameter(type, in[0].index()));
      })
      .Case([&](mlir::arith::ConstantOp constant) -> Result {
        std::optional<Value> value = makeConstant(constant.getValue());
        if (!value)
          return createStringError("constant of unsupported type");
        return Values{*value};
      })
      .Case([&](mlir::tensor::EmptyOp empty) -> Result {
        ArrayRef<Value> dynamic = in;
        auto shape = resolve(empty.getType().getShape(), dynamic);
        auto value =
            makeArray(empty.getType().getElementType(), shape, [](auto &) {});
        if (!value)
          return createStringError("tensor of unsupported type");
        return Values{*value};
      })
      .Case([&](mlir::tensor::DimOp) -> Result {
        return Values{Value::index(shapeOf(in[0])[in[1].index()])};
      })
      .Case([&](mlir::tensor::CastOp) -> Result { return Values{in[0]}; })
      .Case([&](mlir::tensor::ExtractSliceOp slice) -> Result {
        return single(extractSlice(slice, in));
      })
      .Case([&](mlir::tensor::InsertSliceOp slice) -> Result {
        return single(insertSlice(slice, in));
      })
      .Case([&](mlir::linalg::AddOp) -> Result {
        Floats y = in[0].floats();
        for (auto [a, b] : zip_equal(y.data, in[1].floats().data))
          a = a + b;
        return Values{std::move(y)};
      })
      .Case([&](mlir::func::CallOp call) -> Result {
        return run(call.getCallee(), in);
      })
      .Case([&](mlir::scf::ForOp loop) -> Result {
        Values carried(in.drop_front(3));
        for (int64_t i = in[0].index(); i < in[1].index(); i += in[2].index()) {
          Values arguments = {Value::index(i)};
          append_range(arguments, carried);
          Expected<Values> next = runBlock(*loop.getBody(), arguments);
          if (!next)
            return next.takeError();
          carried = std::move(*next);
        }
        return carried;
      })
      .Default([&](mlir::Operation *) -> Result {
        if (!isa<mlir::arith::ArithDialect>(op->getDialect()))
          return createStringError("is not supported by the interpreter");
        return single(executeIndex(op, in));
      });
}

/// Runs a block; its results are the operands of its terminator.
Expected<Values> Interpreter::runBlock(mlir::Block &block,
                                       ArrayRef<Value> arguments) {
  for (auto [argument, value] : zip_equal(block.getArguments(), arguments))
    environment[argument] = value;
  for (mlir::Operation &op : block) {
    Values operands = map_to_vector<4>(
        op.getOperands(), [&](mlir::Value v) { return environment.at(v); });
    if (op.hasTrait<mlir::OpTrait::IsTerminator>())
      return operands;
    Expected<Values> results = execute(&op, operands);
    if (!results)
      return failure(&op, toString(results.takeError()));
    if (observer)
      observer(&op, operands, *results);
    for (auto [result, value] : zip_equal(op.getResults(), *results))
      environment[result] = std::move(value);
  }
  llvm_unreachable("block without terminator");
}

Expected<Values> Interpreter::run(StringRef name, ArrayRef<Value> arguments) {
  auto function = module.lookupSymbol<mlir::func::FuncOp>(name);
  if (!function || function.isExternal())
    return createStringError("no function @" + name + " with a body");
  if (function.getNumArguments() != arguments.size())
    return createStringError("@" + name + " takes " +
                             Twine(function.getNumArguments()) + " arguments");
  // No module recurses: a call never overwrites values of its caller.
  return runBlock(function.getBody().front(), arguments);
}

//===----------------------------------------------------------------------===//
// ReferenceModel
//===----------------------------------------------------------------------===//

ReferenceModel::ReferenceModel(mlir::ModuleOp module, ParameterReader &reader)
    : module(module), interpreter(module, reader) {
  auto step = module.lookupSymbol<mlir::func::FuncOp>("step");
  for (mlir::Type type : step ? step.getArgumentTypes() : mlir::TypeRange())
    if (auto cacheType = dyn_cast<KVCacheType>(type))
      cache = std::make_shared<KVCache>(cacheType);
}

Expected<Floats> ReferenceModel::step(ArrayRef<int32_t> tokens,
                                      ArrayRef<int32_t> positions,
                                      ArrayRef<int32_t> slots,
                                      ArrayRef<int32_t> logitRows) {
  if (!cache)
    return createStringError("the module has no @step with a KV cache");
  auto ids = [](ArrayRef<int32_t> values) {
    return Value(Ints(int64_t(values.size()), values.vec()));
  };
  Expected<Values> results =
      interpreter.run("step", {ids(tokens), ids(positions), ids(slots),
                               ids(logitRows), Value(cache)});
  if (!results)
    return results.takeError();
  if (!module.lookupSymbol("head_rows"))
    return results->front().floats();
  return computeHead(results->front());
}

/// Of a screened head: all groups of rows, then, for whoever observes, the
/// approximations.
Expected<Floats> ReferenceModel::computeHead(const Value &hidden) {
  auto rows = module.lookupSymbol<mlir::func::FuncOp>("head_rows");
  int64_t width =
      cast<mlir::ShapedType>(rows.getResultTypes()[0]).getDimSize(1);
  std::vector<int32_t> groups(divideCeil(width, int64_t(kRowGroup)));
  std::iota(groups.begin(), groups.end(), 0);
  int64_t numGroups = groups.size();
  Expected<Values> exact = interpreter.run(
      "head_rows", {hidden, Value(Ints(numGroups, std::move(groups))),
                    Value(Floats({shapeOf(hidden)[0], width}))});
  if (!exact)
    return exact.takeError();
  Expected<Values> screened = interpreter.run("screen", {hidden});
  if (!screened)
    return screened.takeError();
  return exact->front().floats();
}

Expected<Floats> ReferenceModel::step(ArrayRef<int32_t> tokens, int32_t slot) {
  std::vector<int32_t> rows(tokens.size()), positions(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  int32_t &next = nextPosition[slot];
  std::iota(positions.begin(), positions.end(), next);
  next += tokens.size();
  return step(tokens, positions, std::vector(tokens.size(), slot), rows);
}
