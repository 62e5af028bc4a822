// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Support/CodePacking.h"
#include "compiler/Support/ErrorBound.h"
#include "compiler/Support/PackedLayout.h"
#include "compiler/Support/ParameterReader.h"
#include "dialect/Ternary/SourceEncoding.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <atomic>

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_PACKWEIGHTS
#include "compiler/Passes/Passes.h.inc"

namespace {

using PieceWriter = std::function<llvm::Error(llvm::MutableArrayRef<uint8_t>)>;

/// Matrices above this are cut into several pieces.
constexpr uint64_t kPieceSize = 2 << 20;

/// A matrix of a fused matmul: its rows go to `firstRow` of the packed one. Of
/// weights, or of their scales by row and group.
struct FusedMatrix {
  ternary::ParameterOp parameter;
  int64_t firstRow, rows, cols;
};

/// Rows [begin, end) of the fused matrix as trits of `cols` columns. Rows and
/// columns of padding stay zero.
llvm::Error readFusedTrits(ParameterReader &reader,
                           ArrayRef<FusedMatrix> matrices, int64_t begin,
                           int64_t end, int64_t cols,
                           MutableArrayRef<int8_t> out) {
  for (const FusedMatrix &matrix : matrices) {
    int64_t first = std::max(begin, matrix.firstRow);
    int64_t last = std::min(end, matrix.firstRow + matrix.rows);
    if (first >= last)
      continue;
    int64_t rows = last - first;
    MutableArrayRef<int8_t> block =
        out.slice((first - begin) * cols, rows * cols);
    int64_t source = first - matrix.firstRow;
    if (matrix.cols == cols) {
      if (llvm::Error error =
              reader.readTrits(matrix.parameter, source, source + rows, block))
        return error;
      continue;
    }
    std::vector<int8_t> dense(rows * matrix.cols);
    if (llvm::Error error =
            reader.readTrits(matrix.parameter, source, source + rows, dense))
      return error;
    for (int64_t row = 0; row < rows; ++row)
      llvm::copy(ArrayRef(dense).slice(row * matrix.cols, matrix.cols),
                 block.begin() + row * cols);
  }
  return llvm::Error::success();
}

/// Converts f32 to the 16-bit float of `semantics`.
uint16_t narrow(float value, const llvm::fltSemantics &semantics) {
  llvm::APFloat narrowed(value);
  bool losesInfo;
  narrowed.convert(semantics, llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  return narrowed.bitcastToAPInt().getZExtValue();
}

/// Elements [begin, end) of a float parameter, in the element type that it has
/// in the IR.
llvm::Error writeFloats(ParameterReader &reader, ternary::ParameterOp parameter,
                        int64_t begin, int64_t end,
                        MutableArrayRef<uint8_t> out) {
  auto type =
      cast<FloatType>(cast<ShapedType>(parameter.getType()).getElementType());
  if (type.isF32())
    return reader.readFloats(
        parameter, begin, end,
        MutableArrayRef(reinterpret_cast<float *>(out.data()), end - begin));
  std::vector<float> wide(end - begin);
  if (llvm::Error error = reader.readFloats(parameter, begin, end, wide))
    return error;
  auto *narrowed = reinterpret_cast<uint16_t *>(out.data());
  if (type.isBF16()) // widening bf16 is exact: the upper half is the value
    for (auto [to, from] :
         llvm::zip(MutableArrayRef(narrowed, wide.size()), wide))
      to = llvm::bit_cast<uint32_t>(from) >> 16;
  else
    for (auto [to, from] :
         llvm::zip(MutableArrayRef(narrowed, wide.size()), wide))
      to = narrow(from, type.getFloatSemantics());
  return llvm::Error::success();
}

/// Bytes of a literal whose elements are whole bytes, from `begin`.
void copyLiteral(ElementsAttr literal, int64_t begin,
                 MutableArrayRef<uint8_t> out) {
  if (auto resource = dyn_cast<DenseResourceElementsAttr>(literal)) {
    memcpy(out.data(), resource.getData().data() + begin, out.size());
    return;
  }
  auto dense = cast<DenseElementsAttr>(literal);
  ArrayRef<char> bytes = dense.getRawData();
  if (dense.isSplat())
    for (size_t i = 0; i < out.size(); i += bytes.size())
      memcpy(&out[i], bytes.data(), bytes.size());
  else
    memcpy(out.data(), bytes.data() + begin, out.size());
}

struct PackWeights : impl::PackWeightsBase<PackWeights> {
  PackWeights() = default;
  PackWeights(ParameterReader &reader, std::vector<WeightPiece> &pieces)
      : reader(&reader), pieces(&pieces) {}
  PackWeights(const PackWeights &other)
      : impl::PackWeightsBase<PackWeights>(other), reader(other.reader),
        pieces(other.pieces) {}

  void runOnOperation() override;

private:
  /// Reserves `size` bytes and cuts them into pieces of whole `unit`s; `write`
  /// gets the range of units that its bytes stand for.
  int64_t place(uint64_t size, uint64_t unit,
                std::function<llvm::Error(int64_t begin, int64_t end,
                                          MutableArrayRef<uint8_t>)>
                    write);

  int64_t placeTrits(ArrayRef<FusedMatrix> matrices, int64_t rows, int64_t cols,
                     ternary::LayoutAttr layout);
  int64_t placeRowScales(ArrayRef<FusedMatrix> matrices, ArrayRef<float> scales,
                         int64_t rows);
  int64_t placeGroupScales(ArrayRef<FusedMatrix> scales, int64_t rows);
  int64_t placePackedFloats(ternary::ParameterOp parameter,
                            ternary::LayoutAttr layout);
  /// By row; 0: not known yet. Who writes codes leaves their bounds here, and
  /// who writes the table computes what he misses: pieces have no order.
  using ErrorBounds = std::vector<std::atomic<float>>;
  int64_t placeCodes(ternary::ParameterOp parameter,
                     ternary::CodeLayoutAttr layout,
                     std::shared_ptr<ErrorBounds> bounds);
  int64_t placeErrorBounds(ternary::ParameterOp parameter,
                           ternary::CodeFormat format,
                           std::shared_ptr<ErrorBounds> known);
  int64_t placeFloats(ternary::ParameterOp parameter);

  Value parameterAt(OpBuilder &b, Location loc, int64_t offset, Type type) {
    return ternary::PackedParameterOp::create(
        b, loc, type, arith::ConstantIndexOp::create(b, loc, offset));
  }
  ternary::ParameterOp lookup(Value value) {
    auto get = value.getDefiningOp<ternary::GetParameterOp>();
    return get ? symbols->lookup<ternary::ParameterOp>(get.getName()) : nullptr;
  }

  FailureOr<Value> packScales(ternary::RescaleOp rescale,
                              ArrayRef<FusedMatrix> matrices, int64_t rows);
  LogicalResult packMatmul(ternary::RescaleOp rescale);
  LogicalResult packLinear(ternary::LinearOp linear);
  LogicalResult packQuantizedLinear(ternary::QuantizedLinearOp linear);
  void packEmbedding(ternary::EmbeddingOp embedding);
  void packFloats(ternary::GetParameterOp get);

  ParameterReader *reader = nullptr;
  std::vector<WeightPiece> *pieces = nullptr;
  std::vector<WeightPiece> droppedPieces;
  std::shared_ptr<ParameterReader> ownReader;

  SymbolTable *symbols = nullptr;
  uint64_t end = 0;
  int64_t numTrits = 0;
  uint64_t ternaryBytes = 0, headBytes = 0;
  StringRef headName; ///< of the weights of a head of floats
  /// Where a parameter was placed; packed and plain forms are different places.
  llvm::DenseMap<std::pair<Operation *, Attribute>, int64_t> places;
  /// Layouts of the parameters that a packed linear reads.
  llvm::DenseMap<Operation *, ternary::LayoutAttr> headLayouts;
};

int64_t PackWeights::place(
    uint64_t size, uint64_t unit,
    std::function<llvm::Error(int64_t, int64_t, MutableArrayRef<uint8_t>)>
        write) {
  int64_t offset = end;
  uint64_t step = std::max(kPieceSize / unit, uint64_t(1)) * unit;
  for (uint64_t begin = 0; begin < size; begin += step) {
    uint64_t stop = std::min(begin + step, size);
    pieces->push_back({offset + begin, stop - begin,
                       [write, first = begin / unit,
                        last = stop / unit](MutableArrayRef<uint8_t> out) {
                         return write(first, last, out);
                       }});
  }
  end = llvm::alignTo(offset + size, 64);
  return offset;
}

int64_t PackWeights::placeTrits(ArrayRef<FusedMatrix> matrices, int64_t rows,
                                int64_t cols, ternary::LayoutAttr layout) {
  // `unitRows` rows at a time: their trits stay in the cache.
  auto placeUnits = [&](int64_t firstRow, int64_t numUnits, int64_t unitRows,
                        uint64_t unitSize) {
    return place(
        numUnits * unitSize, unitSize,
        [=, reader = reader, matrices = SmallVector<FusedMatrix>(matrices)](
            int64_t begin, int64_t end,
            MutableArrayRef<uint8_t> out) -> llvm::Error {
          std::vector<int8_t> trits(unitRows * cols);
          for (int64_t unit = begin; unit < end; ++unit) {
            llvm::fill(trits, 0);
            int64_t row = firstRow + unit * unitRows;
            if (llvm::Error error = readFusedTrits(*reader, matrices, row,
                                                   row + unitRows, cols, trits))
              return error;
            packTrits(layout, trits, cols,
                      out.slice((unit - begin) * unitSize, unitSize));
          }
          return llvm::Error::success();
        });
  };
  int64_t numTiles = rows / layout.getTileRows();
  int64_t wholeRows = numTiles * layout.getTileRows();
  int64_t offset =
      placeUnits(0, numTiles, layout.getTileRows(), layout.getTileBytes(cols));
  placeUnits(wholeRows, (rows - wholeRows) / ternary::kRowGroup,
             ternary::kRowGroup, layout.getStripBytes(cols));
  return offset;
}

int64_t PackWeights::placeRowScales(ArrayRef<FusedMatrix> matrices,
                                    ArrayRef<float> scales, int64_t rows) {
  std::vector<float> table(rows / ternary::kRowGroup);
  for (auto [matrix, scale] : llvm::zip(matrices, scales))
    for (int64_t row = 0; row < matrix.rows; row += ternary::kRowGroup)
      table[(matrix.firstRow + row) / ternary::kRowGroup] = scale;
  return place(table.size() * sizeof(float), table.size() * sizeof(float),
               [table](int64_t, int64_t, MutableArrayRef<uint8_t> out) {
                 memcpy(out.data(), table.data(), out.size());
                 return llvm::Error::success();
               });
}

/// Rows of padding have scales of zero.
int64_t PackWeights::placeGroupScales(ArrayRef<FusedMatrix> scales,
                                      int64_t rows) {
  int64_t numGroups = scales.front().cols;
  uint64_t unitSize = ternary::kRowGroup * numGroups * sizeof(float);
  return place(
      rows / ternary::kRowGroup * unitSize, unitSize,
      [=, reader = reader, scales = SmallVector<FusedMatrix>(scales)](
          int64_t begin, int64_t end,
          MutableArrayRef<uint8_t> out) -> llvm::Error {
        MutableArrayRef table(reinterpret_cast<float *>(out.data()),
                              out.size() / sizeof(float));
        llvm::fill(table, 0.0f);
        for (const FusedMatrix &matrix : scales) {
          int64_t first = std::max(begin * ternary::kRowGroup, matrix.firstRow);
          int64_t last =
              std::min(end * ternary::kRowGroup, matrix.firstRow + matrix.rows);
          if (first >= last)
            continue;
          std::vector<float> values((last - first) * numGroups);
          if (llvm::Error error = reader->readFloats(
                  matrix.parameter, (first - matrix.firstRow) * numGroups,
                  (last - matrix.firstRow) * numGroups, values))
            return error;
          for (auto [i, value] : llvm::enumerate(values))
            table[getGroupScaleIndex(first - begin * ternary::kRowGroup +
                                         i / numGroups,
                                     i % numGroups, numGroups)] = value;
        }
        return llvm::Error::success();
      });
}

/// Whole rows of a matrix of floats as a layout has them.
llvm::Error packRows(ParameterReader &reader, ternary::ParameterOp parameter,
                     int64_t begin, int64_t end, ternary::LayoutAttr layout,
                     MutableArrayRef<uint8_t> out) {
  int64_t cols = cast<ShapedType>(parameter.getType()).getDimSize(1);
  if (std::optional<ternary::Encoding> encoding = layout.getBlockEncoding()) {
    ternary::EncodingInfo info = ternary::getEncodingInfo(*encoding);
    std::vector<uint8_t> rows((end - begin) * cols / info.blockSize *
                              info.blockBytes);
    if (llvm::Error error = reader.readRows(parameter, begin, end, rows))
      return error;
    packFloats(layout, rows, cols, out);
    return llvm::Error::success();
  }
  bool isF32 = layout.getPacking() == ternary::Packing::F32;
  std::vector<uint16_t> values((end - begin) * cols * (isF32 ? 2 : 1));
  MutableArrayRef bytes(reinterpret_cast<uint8_t *>(values.data()),
                        values.size() * sizeof(uint16_t));
  if (llvm::Error error =
          writeFloats(reader, parameter, begin * cols, end * cols, bytes))
    return error;
  if (layout.getPacking() == ternary::Packing::BF16Pairs)
    packBF16Pairs(values, cols, layout.getTileRows(), out);
  else
    packFloats(layout, bytes, cols, out);
  return llvm::Error::success();
}

int64_t PackWeights::placePackedFloats(ternary::ParameterOp parameter,
                                       ternary::LayoutAttr layout) {
  auto [entry, isNew] = places.try_emplace({parameter, layout});
  if (!isNew)
    return entry->second;
  auto type = cast<ShapedType>(parameter.getType());
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  uint64_t tileSize = layout.getTileBytes(cols);
  int64_t tileRows = layout.getTileRows();
  int64_t offset =
      place(layout.getPackedBytes(rows, cols), tileSize,
            [=, reader = reader](int64_t begin, int64_t end,
                                 MutableArrayRef<uint8_t> out) -> llvm::Error {
              return packRows(*reader, parameter, begin * tileRows,
                              std::min(end * tileRows, rows), layout, out);
            });
  places[{parameter, layout}] = offset;
  return offset;
}

int64_t PackWeights::placeCodes(ternary::ParameterOp parameter,
                                ternary::CodeLayoutAttr layout,
                                std::shared_ptr<ErrorBounds> bounds) {
  auto type = cast<ShapedType>(parameter.getType());
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  int64_t padded = getPaddedColumns(cols), tileRows = layout.getTileRows();
  return place(
      layout.getSize(rows, padded), layout.getTileSize(padded),
      [=, reader = reader](int64_t begin, int64_t end,
                           MutableArrayRef<uint8_t> out) -> llvm::Error {
        int64_t first = begin * tileRows, last = std::min(end * tileRows, rows);
        std::vector<float> values((last - first) * cols);
        if (llvm::Error error = reader->readFloats(parameter, first * cols,
                                                   last * cols, values))
          return error;
        CodeMatrix matrix = encodeRows(layout.getFormat(), values, cols);
        for (int64_t row = first; bounds && row < last; ++row)
          (*bounds)[row] =
              getErrorBound(ArrayRef(values).slice((row - first) * cols, cols),
                            matrix, row - first);
        packCodes(layout, matrix, out);
        return llvm::Error::success();
      });
}

int64_t PackWeights::placeErrorBounds(ternary::ParameterOp parameter,
                                      ternary::CodeFormat format,
                                      std::shared_ptr<ErrorBounds> known) {
  auto type = cast<ShapedType>(parameter.getType());
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  return place(
      rows * sizeof(float), sizeof(float),
      [=, reader = reader](int64_t begin, int64_t end,
                           MutableArrayRef<uint8_t> out) -> llvm::Error {
        auto *bounds = reinterpret_cast<float *>(out.data());
        std::vector<float> weights(cols);
        for (int64_t row = begin; row < end; ++row) {
          float bound = (*known)[row].load();
          if (bound == 0) {
            if (llvm::Error error = reader->readFloats(
                    parameter, row * cols, (row + 1) * cols, weights))
              return error;
            bound =
                getErrorBound(weights, encodeRows(format, weights, cols), 0);
          }
          *bounds++ = bound;
        }
        return llvm::Error::success();
      });
}

int64_t PackWeights::placeFloats(ternary::ParameterOp parameter) {
  auto [entry, isNew] = places.try_emplace({parameter, Attribute()});
  if (!isNew)
    return entry->second;
  auto type = cast<ShapedType>(parameter.getType());
  uint64_t elementSize = type.getElementTypeBitWidth() / 8;
  int64_t offset =
      place(type.getNumElements() * elementSize, elementSize,
            [=, reader = reader,
             literal = dyn_cast<ElementsAttr>(parameter.getValue())](
                int64_t begin, int64_t end,
                MutableArrayRef<uint8_t> out) -> llvm::Error {
              if (!literal)
                return writeFloats(*reader, parameter, begin, end, out);
              copyLiteral(literal, begin * elementSize, out);
              return llvm::Error::success();
            });
  places[{parameter, Attribute()}] = offset;
  return offset;
}

/// The scales of `rows` rows: of the matrices, or of rows and groups.
FailureOr<Value> PackWeights::packScales(ternary::RescaleOp rescale,
                                         ArrayRef<FusedMatrix> matrices,
                                         int64_t rows) {
  SmallVector<FusedMatrix> ofGroups;
  SmallVector<float> ofMatrices;
  for (auto [scale, matrix] :
       llvm::zip_equal(rescale.getWeightScales(), matrices)) {
    if (ternary::ParameterOp parameter = lookup(scale))
      ofGroups.push_back({parameter, matrix.firstRow, matrix.rows,
                          cast<ShapedType>(scale.getType()).getDimSize(1)});
    else if (auto constant = scale.getDefiningOp<arith::ConstantFloatOp>())
      ofMatrices.push_back(constant.value().convertToFloat());
    else
      return rescale.emitOpError("expected constant scales");
  }
  OpBuilder b(rescale);
  SmallVector<int64_t> shape = {rows / ternary::kRowGroup};
  if (!ofGroups.empty())
    shape.append({ofGroups.front().cols, ternary::kRowGroup});
  auto type = RankedTensorType::get(shape, b.getF32Type());
  ternaryBytes += type.getNumElements() * sizeof(float);
  int64_t offset = ofGroups.empty() ? placeRowScales(matrices, ofMatrices, rows)
                                    : placeGroupScales(ofGroups, rows);
  return parameterAt(b, rescale.getLoc(), offset, type);
}

/// The op that copies elements to `value` from elsewhere, if one does.
linalg::GenericOp getCopy(Value value) {
  auto copy = value.getDefiningOp<linalg::GenericOp>();
  if (!copy || copy.getNumDpsInputs() != 1 || copy.getNumReductionLoops() ||
      !copy.getMatchingIndexingMap(copy.getDpsInitOperand(0)).isIdentity())
    return {};
  Value yielded = copy.getBody()->getTerminator()->getOperand(0);
  return yielded == copy.getBody()->getArgument(0) ? copy : nullptr;
}

/// What a packed_matmul has of its tokens.
struct Operands {
  Value q, scale, outs;
  ReassociationIndices tokenDims; ///< of q
};

/// Those of matrices, unless q is copied from windows: then its dimensions stay
/// as they are, and ElideCopies makes it a view of what the windows see.
Operands getOperands(ternary::RescaleOp rescale, ternary::MatmulOp matmul) {
  Operands matrices = {
      matmul.getQ(), rescale.getActivationScale(), rescale.getOuts(), {0}};
  auto collapse = matrices.q.getDefiningOp<tensor::CollapseShapeOp>();
  if (!collapse || !getCopy(collapse.getSrc()) ||
      matmul.getLayout()->usesTables())
    return matrices;
  Value q = collapse.getSrc();
  ReassociationIndices tokenDims = collapse.getReassociationIndices()[0];
  ArrayRef<int64_t> columns =
      collapse.getSrcType().getShape().drop_front(tokenDims.size());
  if (ShapedType::isDynamicShape(columns) || columns.back() % 4)
    return matrices;

  OpBuilder b(rescale);
  Location loc = rescale.getLoc();
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, q);
  sizes.resize(tokenDims.size());
  Value scale = matrices.scale;
  auto collapsed = scale.getDefiningOp<tensor::CollapseShapeOp>();
  if (collapsed &&
      collapsed.getSrcType().getShape() ==
          collapse.getSrcType().getShape().take_front(sizes.size()))
    scale = collapsed.getSrc();
  else if (sizes.size() > 1)
    scale = tensor::ExpandShapeOp::create(
        b, loc,
        RankedTensorType::get(
            collapse.getSrcType().getShape().take_front(sizes.size()),
            b.getF32Type()),
        scale, ArrayRef<ReassociationIndices>{tokenDims}, sizes);
  sizes.push_back(tensor::getMixedSize(b, loc, matrices.outs, 1));
  Value outs = tensor::EmptyOp::create(b, loc, sizes, b.getF32Type());
  return {q, scale, outs, tokenDims};
}

/// The sums of the tokens of q, which unpacked codes are corrected by: those of
/// quantize_activations, or computed, where q is copied of what it is copied
/// from.
FailureOr<Value> getSums(ternary::MatmulOp matmul, const Operands &operands) {
  Value q = operands.q;
  if (auto quantise = q.getDefiningOp<ternary::QuantizeActivationsOp>();
      quantise && quantise.getQ() == q) {
    if (quantise.getGroup() != matmul.getGroup())
      return matmul.emitOpError("expected the groups of its activations");
    return quantise.getSum();
  }
  std::optional<int64_t> group = matmul.getGroup();
  if (group && *group < cast<ShapedType>(matmul.getQ().getType()).getDimSize(1))
    return matmul.emitOpError("expected activations of quantize_activations");
  OpBuilder b(matmul);
  Location loc = matmul.getLoc();
  unsigned rank = cast<ShapedType>(q.getType()).getRank(),
           numTokenDims = operands.tokenDims.size();
  AffineMap identity = b.getMultiDimIdentityMap(rank);
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, q);
  SmallVector<Value> inputs = {q};
  SmallVector<AffineMap> maps = {identity};
  if (linalg::GenericOp copy = getCopy(q)) {
    // The second operand, which is not read, has the extents of the columns.
    inputs = {copy.getInputs()[0],
              tensor::EmptyOp::create(b, loc,
                                      ArrayRef(sizes).drop_front(numTokenDims),
                                      b.getI8Type())};
    maps = {copy.getIndexingMapsArray()[0],
            identity.getMinorSubMap(rank - numTokenDims)};
  }
  maps.push_back(identity.getMajorSubMap(numTokenDims));
  sizes.resize(numTokenDims);
  Value zero = arith::ConstantIntOp::create(b, loc, 0, 32);
  Value sums = tensor::EmptyOp::create(b, loc, sizes, b.getI32Type());
  sums = linalg::FillOp::create(b, loc, zero, sums).getResult(0);
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::reduction);
  std::fill_n(iterators.begin(), numTokenDims, utils::IteratorType::parallel);
  sums = linalg::GenericOp::create(
             b, loc, sums.getType(), inputs, sums, maps, iterators,
             [](OpBuilder &b, Location loc, ValueRange v) {
               Value wide =
                   arith::ExtSIOp::create(b, loc, b.getI32Type(), v[0]);
               Value sum = arith::AddIOp::create(b, loc, wide, v.back());
               linalg::YieldOp::create(b, loc, sum);
             })
             .getResult(0);
  if (!group)
    return sums;
  // One group: of all columns.
  auto type = cast<RankedTensorType>(sums.getType());
  SmallVector<int64_t> shape(type.getShape());
  shape.push_back(1);
  sizes.push_back(b.getIndexAttr(1));
  SmallVector<ReassociationIndices> dims;
  for (int64_t i = 0; i < numTokenDims; ++i)
    dims.push_back({i});
  dims.back().push_back(numTokenDims);
  return Value(tensor::ExpandShapeOp::create(
      b, loc, RankedTensorType::get(shape, b.getI32Type()), sums, dims, sizes));
}

/// matmul + rescale become packed_matmul: the i32 sums stay in registers.
LogicalResult PackWeights::packMatmul(ternary::RescaleOp rescale) {
  auto matmul = rescale.getAcc().getDefiningOp<ternary::MatmulOp>();
  if (!matmul || !matmul->hasOneUse() || !matmul.getLayout())
    return rescale.emitOpError("expected the sums of one matmul with a layout");
  ternary::LayoutAttr layout = *matmul.getLayout();
  Operands operands = getOperands(rescale, matmul);
  FailureOr<Value> sums = getSums(matmul, operands);
  if (failed(sums))
    return failure();

  SmallVector<int64_t> offsets = ternary::getColumnOffsets(rescale.getRows());
  SmallVector<FusedMatrix> matrices;
  for (auto [weight, firstRow] : llvm::zip(matmul.getWeights(), offsets)) {
    ternary::ParameterOp parameter = lookup(weight);
    if (!parameter)
      return matmul.emitOpError("expected constant weights");
    auto type = cast<ShapedType>(weight.getType());
    matrices.push_back(
        {parameter, firstRow, type.getDimSize(0), type.getDimSize(1)});
    numTrits += type.getNumElements();
  }
  int64_t width = cast<ShapedType>(rescale.getOuts().getType()).getDimSize(1);
  int64_t cols = cast<ShapedType>(matmul.getQ().getType()).getDimSize(1);

  OpBuilder b(rescale);
  Location loc = matmul.getLoc();
  int64_t size = layout.getPackedBytes(width, cols);
  ternaryBytes += size;
  FailureOr<Value> scales = packScales(rescale, matrices, width);
  if (failed(scales))
    return failure();
  Value packed = parameterAt(b, loc, placeTrits(matrices, width, cols, layout),
                             RankedTensorType::get({size}, b.getI8Type()));
  Value tables;
  if (layout.usesTables()) {
    int64_t shape[] = {layout.getTableTokens(cols), layout.getTableBytes(cols)};
    tables = tensor::EmptyOp::create(b, loc, shape, b.getI8Type());
  }
  Value result =
      ternary::PackedMatmulOp::create(
          b, loc, operands.outs.getType(), operands.q, operands.scale, *sums,
          packed, *scales, operands.outs, tables, layout, matmul.getGroupAttr())
          .getResult();
  if (operands.tokenDims.size() > 1)
    result = tensor::CollapseShapeOp::create(
        b, loc, rescale.getOuts().getType(), result,
        ArrayRef<ReassociationIndices>{operands.tokenDims,
                                       {int64_t(operands.tokenDims.size())}});
  rescale.getResult().replaceAllUsesWith(result);
  rescale.erase();
  matmul.erase();
  return success();
}

LogicalResult PackWeights::packLinear(ternary::LinearOp linear) {
  ternary::ParameterOp parameter = lookup(linear.getWeight());
  auto type = cast<ShapedType>(linear.getWeight().getType());
  if (linear.getGroups()) {
    int64_t columns = type.getDimSize(1);
    int64_t size =
        linear.getLayout()
            ? linear.getLayout()->getTileBytes(columns)
            : ternary::kRowGroup * columns * type.getElementTypeBitWidth() / 8;
    getOperation()->setAttr("ternary.head_group_bytes",
                            Builder(&getContext()).getI64IntegerAttr(size));
  }
  if (!parameter)
    return success();
  ternary::LayoutAttr layout = linear.getLayoutAttr();
  int64_t size =
      layout ? layout.getPackedBytes(type.getDimSize(0), type.getDimSize(1))
             : type.getNumElements() * type.getElementTypeBitWidth() / 8;
  if (!linear.getGroups()) // those that are asked for are counted at run time
    headBytes += size;
  if (!layout)
    return success(); // stays a linear over plain floats
  headName = layout.getPacking() == ternary::Packing::BF16Pairs
                 ? "bf16"
                 : stringifyPacking(layout.getPacking());
  OpBuilder b(linear);
  Value packed =
      parameterAt(b, linear.getLoc(), placePackedFloats(parameter, layout),
                  RankedTensorType::get({size}, b.getI8Type()));
  linear.getResult().replaceAllUsesWith(
      ternary::PackedLinearOp::create(
          b, linear.getLoc(), linear.getOuts().getType(), linear.getX(), packed,
          linear.getGroups(), linear.getOuts(), layout)
          .getResult());
  linear.erase();
  return success();
}

/// The weights are a copy: a tied embedding keeps its exact rows.
LogicalResult
PackWeights::packQuantizedLinear(ternary::QuantizedLinearOp linear) {
  ternary::ParameterOp parameter = lookup(linear.getWeight());
  if (!linear.getLayout() || !parameter)
    return linear.emitOpError("expected a layout and a constant weight");
  ternary::CodeLayoutAttr layout = *linear.getLayout();
  int64_t group = ternary::getCodeFormatInfo(layout.getFormat()).group;
  auto type = cast<ShapedType>(parameter.getType());
  int64_t cols = type.getDimSize(1), padded = getPaddedColumns(cols);

  OpBuilder b(linear);
  Location loc = linear.getLoc();
  OpFoldResult numTokens = tensor::getMixedSize(b, loc, linear.getX(), 0);
  auto empty = [&](ArrayRef<int64_t> trailing, Type element) -> Value {
    SmallVector<OpFoldResult> sizes = {numTokens};
    for (int64_t size : trailing)
      sizes.push_back(b.getIndexAttr(size));
    return tensor::EmptyOp::create(b, loc, sizes, element);
  };
  Value high = empty({padded}, b.getI8Type()),
        low = empty({padded}, b.getI8Type()), scale = empty({}, b.getF32Type()),
        sums = empty({int64_t(llvm::divideCeil(cols, group))}, b.getI32Type());
  auto quantised = ternary::QuantizeWideOp::create(
      b, loc, high.getType(), low.getType(), scale.getType(), sums.getType(),
      linear.getX(), high, low, scale, sums, group);

  int64_t size = layout.getSize(type.getDimSize(0), padded);
  headBytes += size;
  std::shared_ptr<ErrorBounds> bounds;
  if (linear.getBounded())
    bounds = std::make_shared<ErrorBounds>(type.getDimSize(0));
  Value packed = parameterAt(b, loc, placeCodes(parameter, layout, bounds),
                             RankedTensorType::get({size}, b.getI8Type()));
  if (bounds) {
    int64_t offset = placeErrorBounds(parameter, layout.getFormat(), bounds);
    headBytes += bounds->size() * sizeof(float);
    getOperation()->setAttr("ternary.error_bounds",
                            b.getI64IntegerAttr(offset));
  }
  linear->replaceAllUsesWith(ternary::PackedQuantizedLinearOp::create(
      b, loc, linear.getOuts().getType(), quantised.getHigh(),
      quantised.getLow(), quantised.getScale(), quantised.getSums(), packed,
      linear.getOuts(), layout));
  linear.erase();
  return success();
}

/// A tied head and embedding are one packed matrix; any other table is as its
/// layout says, or stays plain.
void PackWeights::packEmbedding(ternary::EmbeddingOp embedding) {
  ternary::ParameterOp parameter = lookup(embedding.getTable());
  ternary::LayoutAttr layout = headLayouts.lookup(parameter);
  if (!layout)
    layout = embedding.getLayoutAttr();
  if (!layout || !parameter)
    return;
  auto type = cast<ShapedType>(parameter.getType());
  OpBuilder b(embedding);
  int64_t size = layout.getPackedBytes(type.getDimSize(0), type.getDimSize(1));
  embedding.getTableMutable().assign(
      parameterAt(b, embedding.getLoc(), placePackedFloats(parameter, layout),
                  RankedTensorType::get({size}, b.getI8Type())));
  embedding.setLayoutAttr(layout);
}

void PackWeights::packFloats(ternary::GetParameterOp get) {
  OpBuilder b(get);
  get.getResult().replaceAllUsesWith(
      parameterAt(b, get.getLoc(), placeFloats(lookup(get)), get.getType()));
}

void PackWeights::runOnOperation() {
  ModuleOp module = getOperation();
  SymbolTable symbolTable(module);
  symbols = &symbolTable;
  if (!reader) {
    ownReader = std::make_shared<ParameterReader>();
    reader = ownReader.get();
    pieces = &droppedPieces;
  }

  module.walk([&](ternary::LinearOp op) {
    ternary::ParameterOp parameter = lookup(op.getWeight());
    if (op.getLayout() && parameter)
      headLayouts[parameter] = *op.getLayout();
  });

  // In program order, which is the order in which a step reads the weights.
  SmallVector<Operation *> ops;
  SmallVector<ternary::GetParameterOp> gets;
  module.walk([&](Operation *op) {
    if (isa<ternary::RescaleOp, ternary::LinearOp, ternary::QuantizedLinearOp,
            ternary::EmbeddingOp>(op))
      ops.push_back(op);
    else if (auto get = dyn_cast<ternary::GetParameterOp>(op))
      gets.push_back(get);
  });
  for (Operation *op : ops) {
    LogicalResult packed =
        llvm::TypeSwitch<Operation *, LogicalResult>(op)
            .Case([&](ternary::RescaleOp op) { return packMatmul(op); })
            .Case([&](ternary::LinearOp op) { return packLinear(op); })
            .Case([&](ternary::QuantizedLinearOp op) {
              return packQuantizedLinear(op);
            })
            .Case([&](ternary::EmbeddingOp op) {
              packEmbedding(op);
              return success();
            })
            .Default(success());
    if (failed(packed))
      return signalPassFailure();
  }
  for (ternary::GetParameterOp get : gets) {
    if (!get->use_empty()) {
      if (cast<ShapedType>(get.getType()).getElementType().isInteger(2)) {
        get.emitOpError("expected trits to be used by matmuls only");
        return signalPassFailure();
      }
      packFloats(get);
    }
    get.erase();
  }

  // The pieces read parameters after the module has become machine code.
  auto held = std::make_shared<OwningOpRef<ModuleOp>>(
      ModuleOp::create(module.getLoc()));
  for (auto parameter :
       llvm::make_early_inc_range(module.getOps<ternary::ParameterOp>()))
    parameter->moveBefore(held->get().getBody(), held->get().getBody()->end());
  for (WeightPiece &piece : *pieces)
    piece.write = [held, ownReader = ownReader, write = std::move(piece.write)](
                      MutableArrayRef<uint8_t> out) { return write(out); };

  Builder b(&getContext());
  module->setAttr("ternary.weights_size", b.getI64IntegerAttr(end));
  module->setAttr("ternary.num_trits", b.getI64IntegerAttr(numTrits));
  module->setAttr("ternary.ternary_bytes", b.getI64IntegerAttr(ternaryBytes));
  module->setAttr("ternary.head_bytes", b.getI64IntegerAttr(headBytes));
  if (!headName.empty())
    module->setAttr("ternary.head", b.getStringAttr(headName));
}

} // namespace

std::unique_ptr<Pass> createPackWeights(ParameterReader &reader,
                                        std::vector<WeightPiece> &pieces) {
  return std::make_unique<PackWeights>(reader, pieces);
}

} // namespace tercet
