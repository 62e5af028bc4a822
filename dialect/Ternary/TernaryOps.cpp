// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Verifiers and side effects. Each check names its constraint of TernaryOps.td.

#include "dialect/Ternary/SourceEncoding.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet::ternary;

SmallVector<int64_t> tercet::ternary::getColumnOffsets(ArrayRef<int64_t> rows) {
  SmallVector<int64_t> offsets = {0};
  for (int64_t count : rows)
    offsets.push_back(llvm::alignTo(offsets.back(), kRowGroup) + count);
  for (size_t i = 1; i + 1 < offsets.size(); ++i)
    offsets[i] = llvm::alignTo(offsets[i], kRowGroup);
  return offsets;
}

//===----------------------------------------------------------------------===//
// Effects
//===----------------------------------------------------------------------===//

/// On memrefs a destination-style op reads its inputs and writes its outs; on
/// tensors it has no effect. A KV cache operand is read.
static void getDestinationEffects(
    DestinationStyleOpInterface op,
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &operand : op->getOpOperands()) {
    if (!isa<MemRefType, KVCacheType>(operand.get().getType()))
      continue;
    if (op.isDpsInit(&operand))
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
    else
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  }
}

#define TERCET_DESTINATION_EFFECTS(OpTy)                                       \
  void OpTy::getEffects(                                                       \
      SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>      \
          &effects) {                                                          \
    getDestinationEffects(cast<DestinationStyleOpInterface>(getOperation()),   \
                          effects);                                            \
  }
TERCET_DESTINATION_EFFECTS(BitLinearOp)
TERCET_DESTINATION_EFFECTS(QuantizeActivationsOp)
TERCET_DESTINATION_EFFECTS(MatmulOp)
TERCET_DESTINATION_EFFECTS(RescaleOp)
TERCET_DESTINATION_EFFECTS(EmbeddingOp)
TERCET_DESTINATION_EFFECTS(RMSNormOp)
TERCET_DESTINATION_EFFECTS(RopeOp)
TERCET_DESTINATION_EFFECTS(AttentionOp)
TERCET_DESTINATION_EFFECTS(GatedActivationOp)
TERCET_DESTINATION_EFFECTS(GatherRowsOp)
TERCET_DESTINATION_EFFECTS(LinearOp)
TERCET_DESTINATION_EFFECTS(QuantizedLinearOp)
TERCET_DESTINATION_EFFECTS(QuantizeWideOp)
TERCET_DESTINATION_EFFECTS(FusedRowsOp)
TERCET_DESTINATION_EFFECTS(PackedLinearOp)
TERCET_DESTINATION_EFFECTS(PackedQuantizedLinearOp)
#undef TERCET_DESTINATION_EFFECTS

void PackedMatmulOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  getDestinationEffects(cast<DestinationStyleOpInterface>(getOperation()),
                        effects);
  if (getTables() && isa<MemRefType>(getTables().getType()))
    effects.emplace_back(MemoryEffects::Write::get(),
                         &getOperation()->getOpOperands().back());
}

void KVUpdateOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  for (OpOperand &operand : getOperation()->getOpOperands())
    if (isa<MemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  effects.emplace_back(MemoryEffects::Write::get(), &getCacheMutable());
}

LogicalResult
GetParameterOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto parameter =
      symbolTable.lookupNearestSymbolFrom<ParameterOp>(*this, getNameAttr());
  if (!parameter || parameter.getType() != getType())
    return emitOpError("(C1) '")
           << getName() << "' is not a parameter of type " << getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Syntax
//===----------------------------------------------------------------------===//

/// ` scales tensor<16x2xf32>, ...`: the types of weight scales, unless all are
/// f32.
static ParseResult
parseScaleTypes(OpAsmParser &parser,
                ArrayRef<OpAsmParser::UnresolvedOperand> scales,
                SmallVectorImpl<Type> &types) {
  if (succeeded(parser.parseOptionalKeyword("scales")))
    return parser.parseTypeList(types);
  types.append(scales.size(), parser.getBuilder().getF32Type());
  return success();
}

static void printScaleTypes(OpAsmPrinter &printer, Operation *, OperandRange,
                            TypeRange types) {
  if (!llvm::all_of(types, llvm::IsaPred<Float32Type>))
    printer << " scales " << types;
}

//===----------------------------------------------------------------------===//
// Verifiers
//===----------------------------------------------------------------------===//

/// Whether two sizes may be equal at run time.
static bool compatible(int64_t a, int64_t b) {
  return ShapedType::isDynamic(a) || ShapedType::isDynamic(b) || a == b;
}

/// Whether `dim` may be a size of at least `minimum`.
static bool canHold(int64_t dim, int64_t minimum) {
  return ShapedType::isDynamic(dim) || ShapedType::isDynamic(minimum) ||
         dim >= minimum;
}

/// Whether `dim` may be a multiple of `factor`.
static bool divisible(int64_t dim, int64_t factor) {
  return ShapedType::isDynamic(dim) || ShapedType::isDynamic(factor) ||
         (factor && dim % factor == 0);
}

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<ShapedType>(value.getType()).getShape();
}
static int64_t dimOf(Value value, unsigned i) { return shapeOf(value)[i]; }

/// Whether the shape of `value` may be `shape`.
static bool hasShape(Value value, ArrayRef<int64_t> shape) {
  return llvm::equal(shapeOf(value), shape, compatible);
}

/// An error that starts with the number of the violated constraint, unless
/// `holds`.
static LogicalResult check(Operation *op, bool holds, StringRef constraint) {
  return holds ? success() : LogicalResult(op->emitOpError(constraint));
}

/// One past the last column of fused matrices; dynamic if one is.
static int64_t getEndColumn(ArrayRef<int64_t> rows) {
  if (llvm::any_of(rows, ShapedType::isDynamic))
    return ShapedType::kDynamic;
  return getColumnOffsets(rows).back();
}
static SmallVector<int64_t> getRows(ValueRange weights) {
  return llvm::map_to_vector(weights, [](Value w) { return dimOf(w, 0); });
}
static int64_t getEndColumn(ValueRange weights) {
  return getEndColumn(getRows(weights));
}

/// Whether every matrix is [M_i, K] with a K that accumulates exactly.
static bool shareColumns(ValueRange weights, int64_t columns) {
  return llvm::all_of(weights, [&](Value weight) {
    return compatible(dimOf(weight, 1), columns) &&
           canHold(kMaxK, dimOf(weight, 1));
  });
}

/// `size` / `factor` rounded up, unless it is dynamic.
static int64_t ceilDiv(int64_t size, int64_t factor) {
  return ShapedType::isDynamic(size) ? size : llvm::divideCeil(size, factor);
}

/// Groups of columns, if they are cut into groups at all.
static std::optional<int64_t> countGroups(int64_t columns,
                                          std::optional<int64_t> group) {
  if (!group)
    return std::nullopt;
  return ceilDiv(columns, *group);
}

/// Whether `sums` has one for each token, or for each of its groups.
static bool haveSums(Value sums, int64_t tokens,
                     std::optional<int64_t> numGroups) {
  return numGroups ? hasShape(sums, {tokens, *numGroups})
                   : hasShape(sums, tokens);
}

/// Whether scales are those of matrices, or of their rows and groups.
static bool haveScales(ValueRange scales, ArrayRef<int64_t> rows,
                       std::optional<int64_t> numGroups) {
  return llvm::all_of(llvm::zip_equal(scales, rows), [&](auto pair) {
    auto [scale, count] = pair;
    bool isShaped = isa<ShapedType>(scale.getType());
    return numGroups ? isShaped && hasShape(scale, {count, *numGroups})
                     : !isShaped;
  });
}

static bool isBelow(Value index, int64_t bound) {
  std::optional<int64_t> value = getConstantIntValue(index);
  return !value || (*value >= 0 && *value < bound);
}

static bool isPositiveFinite(const APFloat &value) {
  return value.isFinite() && !value.isNegative() && !value.isZero();
}

/// Bytes of [rows, columns] in `layout`, of which any may be dynamic.
static int64_t getPackedBytes(LayoutAttr layout, int64_t rows,
                              int64_t columns) {
  if (ShapedType::isDynamic(rows) || ShapedType::isDynamic(columns))
    return ShapedType::kDynamic;
  return layout.getPackedBytes(rows, columns);
}

//===----------------------------------------------------------------------===//
// Parameters

/// What a source of this encoding needs for scales of this shape.
static std::optional<int64_t>
getScalesSize(Encoding encoding, ArrayRef<int64_t> shape, int64_t sourceSize) {
  EncodingInfo info = getEncodingInfo(encoding);
  if (info.rowBytes == 0)
    return getSourceSize(encoding, {shape[0], shape[1] * info.blockSize});
  int64_t blockBytes =
      shape[0] == 0 ? 0 : sourceSize / shape[0] - info.rowBytes;
  return shape[1] != 1
             ? std::nullopt
             : getSourceSize(encoding, {shape[0], blockBytes / info.blockBytes *
                                                      info.blockSize});
}

static LogicalResult verifySource(ParameterOp op, RankedTensorType type,
                                  SourceAttr source) {
  Encoding encoding = source.getEncoding();
  bool isTernary = getEncodingInfo(encoding).isTernary,
       isMatrix = type.getRank() == 2;
  FloatAttr absmean = source.getAbsmean();
  Type element = type.getElementType();
  std::optional<int64_t> size;
  if (element.isInteger(2)) {
    if (!isMatrix || isTernary == bool(absmean) ||
        (absmean &&
         !(absmean.getType().isF32() && isPositiveFinite(absmean.getValue()))))
      return op.emitOpError("(C3) source of trits does not fit ") << type;
    size = getSourceSize(encoding, type.getShape());
  } else if (isTernary) {
    if (!isMatrix || absmean || !element.isF32() || !hasInlineScales(encoding))
      return op.emitOpError("(C3) encoding ")
             << stringifyEncoding(encoding) << " has no scales of " << type;
    size = getScalesSize(encoding, type.getShape(), source.getSize());
  } else {
    if (absmean ||
        !(element.isF32() || (element.isF16() && encoding == Encoding::F16) ||
          (element.isBF16() && getEncodingInfo(encoding).blockSize == 1)))
      return op.emitOpError("(C3) encoding ")
             << stringifyEncoding(encoding) << " does not fit " << type;
    size = getSourceSize(encoding, type.getShape());
  }
  if (!size)
    return op.emitOpError("(C3) encoding ")
           << stringifyEncoding(encoding) << " cannot hold " << type;
  if (source.getSize() != uint64_t(*size))
    return op.emitOpError("(C3) source has ")
           << source.getSize() << " bytes, " << type << " needs " << *size;
  int64_t heads = source.getRotaryHeads();
  if (heads != 0 &&
      (heads < 0 || !isMatrix || type.getDimSize(0) % (2 * heads)))
    return op.emitOpError("(C3) rows of ")
           << type << " are not those of " << heads << " rotary heads";
  return success();
}

LogicalResult ParameterOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type || !type.hasStaticShape() ||
      !(type.getElementType().isInteger(2) ||
        (type.getElementType().isIntOrFloat() &&
         type.getElementTypeBitWidth() % 8 == 0)))
    return emitOpError("(C1) type ")
           << getType()
           << " is not a static tensor of i2 or of elements of whole bytes";

  if (auto source = dyn_cast<SourceAttr>(getValue()))
    return verifySource(*this, type, source);
  if (auto rope = dyn_cast<RopeTableAttr>(getValue()))
    return check(*this,
                 type.getRank() == 2 && type.getElementType().isF32() &&
                     type.getDimSize(1) % 2 == 0 &&
                     rope.getTheta().getType().isF64() &&
                     isPositiveFinite(rope.getTheta().getValue()),
                 "(C4) a rope table is an f32 matrix of even width with a "
                 "positive f64 theta");

  if (auto resource = dyn_cast<DenseResourceElementsAttr>(getValue());
      resource && resource.getType() == type)
    return success(); // as many bytes as the blob needs, with i2 one for each
  auto literal = dyn_cast<DenseElementsAttr>(getValue());
  if (!literal || literal.getType() != type)
    return emitOpError("(C2) value is neither a source, a rope table nor a "
                       "literal of type ")
           << type;
  if (type.getElementType().isInteger(2) &&
      llvm::any_of(literal.getValues<APInt>(),
                   [](const APInt &trit) { return trit.isMinSignedValue(); }))
    return emitOpError("(C2) -2 is not a trit");
  return success();
}

LogicalResult AbsmeanQuantizeOp::verify() {
  auto latent = cast<ShapedType>(getLatent().getType());
  return check(*this,
               latent.hasStaticShape() &&
                   latent.getShape() == shapeOf(getTrits()),
               "(C1) trits and latent have different or dynamic shapes");
}

//===----------------------------------------------------------------------===//
// BitLinear

LogicalResult BitLinearOp::verify() {
  if (getWeights().empty() || getWeights().size() != getScales().size())
    return emitOpError("(C1) ") << getWeights().size() << " matrices have "
                                << getScales().size() << " scales";
  if (!shareColumns(getWeights(), dimOf(getX(), 1)))
    return emitOpError("(C2) matrices and x differ in K, or K is over ")
           << kMaxK;
  if (!compatible(dimOf(getOuts(), 0), dimOf(getX(), 0)) ||
      !canHold(dimOf(getOuts(), 1), getEndColumn(getWeights())))
    return emitOpError("(C3) outs does not hold the rows of x or all matrices");
  return check(*this,
               haveScales(getScales(), getRows(getWeights()),
                          countGroups(dimOf(getX(), 1), getGroup())),
               "(C4) scales are not f32, or with group not [M_i, groups]");
}

LogicalResult QuantizeActivationsOp::verify() {
  int64_t tokens = dimOf(getX(), 0);
  if (!compatible(dimOf(getQOuts(), 0), tokens) ||
      !canHold(dimOf(getQOuts(), 1), dimOf(getX(), 1)) ||
      !hasShape(getScaleOuts(), tokens))
    return emitOpError("(C1) x [N, K] needs q [N, K' >= K] and scale [N]");
  return check(
      *this,
      haveSums(getSumOuts(), tokens, countGroups(dimOf(getX(), 1), getGroup())),
      "(C2) sum is not [N], or with group not [N, groups]");
}

LogicalResult MatmulOp::verify() {
  int64_t columns = getWeights().empty() ? ShapedType::kDynamic
                                         : dimOf(getWeights().front(), 1);
  if (!shareColumns(getWeights(), columns) ||
      !canHold(dimOf(getQ(), 1), columns))
    return emitOpError("(C1) matrices differ in K, or K is over that of q or ")
           << kMaxK;
  if (!compatible(dimOf(getOuts(), 0), dimOf(getQ(), 0)) ||
      !canHold(shapeOf(getOuts()).back(), getEndColumn(getWeights())))
    return emitOpError("(C2) outs does not hold the rows of q or all matrices");
  ArrayRef<int64_t> outs = shapeOf(getOuts());
  std::optional<int64_t> numGroups = countGroups(columns, getGroup());
  return check(*this,
               numGroups ? outs.size() == 3 && compatible(outs[1], *numGroups)
                         : outs.size() == 2,
               "(C3) outs is not [N, W], or with group not [N, groups, W]");
}

LogicalResult RescaleOp::verify() {
  ArrayRef<int64_t> acc = shapeOf(getAcc());
  if (!hasShape(getOuts(), {acc.front(), acc.back()}) ||
      !hasShape(getActivationScale(), acc.front()))
    return emitOpError(
        "(C1) acc [N, W] or [N, groups, W] needs outs [N, W] and scale [N]");
  if (getWeightScales().size() != getRows().size() ||
      !canHold(acc.back(), getEndColumn(getRows())))
    return emitOpError(
        "(C2) needs a weight scale per matrix, and columns for all");
  std::optional<int64_t> numGroups;
  if (acc.size() == 3)
    numGroups = acc[1];
  return check(*this, haveScales(getWeightScales(), getRows(), numGroups),
               "(C3) scales are not f32, or those of groups not [M_i, groups]");
}

//===----------------------------------------------------------------------===//
// The rest of a transformer

LogicalResult EmbeddingOp::verify() {
  auto table = cast<ShapedType>(getTable().getType());
  bool valid = compatible(dimOf(getTokens(), 0), dimOf(getOuts(), 0));
  if (table.getRank() == 1)
    valid &= getLayout() && !getLayout()->packsTrits();
  else
    valid &= compatible(table.getDimSize(1), dimOf(getOuts(), 1));
  return check(*this, valid,
               "(C1) tokens [N] need outs [N, D] and a table [V, D], or bytes "
               "with a layout of floats");
}

LogicalResult RMSNormOp::verify() {
  if (!hasShape(getOuts(), shapeOf(getX())) ||
      !hasShape(getWeight(), dimOf(getX(), 1)))
    return emitOpError("(C1) x [N, K] needs outs [N, K] and weight [K]");
  return check(*this, isPositiveFinite(getEpsilon()),
               "(C2) epsilon is not positive and finite");
}

LogicalResult RopeOp::verify() {
  int64_t headDim = dimOf(getTable(), 1);
  return check(*this,
               hasShape(getOuts(), shapeOf(getX())) &&
                   hasShape(getPositions(), dimOf(getX(), 0)) &&
                   divisible(headDim, 2) &&
                   divisible(dimOf(getX(), 1), headDim),
               "(C1) x [N, heads * H] needs outs of its shape, positions [N] "
               "and a table [C, H] with H even");
}

LogicalResult KVUpdateOp::verify() {
  KVCacheType cache = getCache().getType();
  int64_t tokens = dimOf(getKeys(), 0);
  int64_t width = cache.getHeads() * cache.getHeadDim();
  if (!hasShape(getKeys(), {tokens, width}) ||
      !hasShape(getValues(), {tokens, width}) ||
      !hasShape(getPositions(), tokens) || !hasShape(getSlots(), tokens))
    return emitOpError("(C1) keys and values need shape [N, ")
           << width << "], positions and slots [N]";
  return check(*this, isBelow(getLayer(), cache.getLayers()),
               "(C2) the cache has no such layer");
}

LogicalResult AttentionOp::verify() {
  KVCacheType cache = getCache().getType();
  int64_t tokens = dimOf(getQ(), 0);
  if (!hasShape(getOuts(), shapeOf(getQ())) ||
      !divisible(dimOf(getQ(), 1), cache.getHeads() * cache.getHeadDim()) ||
      !hasShape(getPositions(), tokens) || !hasShape(getSlots(), tokens))
    return emitOpError("(C1) q and outs need whole groups of ")
           << cache.getHeads() << " heads of " << cache.getHeadDim()
           << ", positions and slots [N]";
  return check(*this, isBelow(getLayer(), cache.getLayers()),
               "(C2) the cache has no such layer");
}

LogicalResult GatedActivationOp::verify() {
  return check(*this,
               hasShape(getUp(), shapeOf(getGate())) &&
                   hasShape(getOuts(), shapeOf(getGate())),
               "(C1) gate, up and outs differ in shape");
}

LogicalResult GatherRowsOp::verify() {
  return check(*this,
               hasShape(getOuts(), {dimOf(getRows(), 0), dimOf(getX(), 1)}),
               "(C1) x [N, K] and rows [R] need outs [R, K]");
}

template <typename OpTy> static LogicalResult verifyLinear(OpTy op) {
  return check(op,
               compatible(dimOf(op.getWeight(), 1), dimOf(op.getX(), 1)) &&
                   compatible(dimOf(op.getOuts(), 0), dimOf(op.getX(), 0)) &&
                   canHold(dimOf(op.getOuts(), 1), dimOf(op.getWeight(), 0)),
               "(C1) x [N, K] and weight [M, K] need outs [N, W >= M]");
}
LogicalResult LinearOp::verify() { return verifyLinear(*this); }
LogicalResult QuantizedLinearOp::verify() { return verifyLinear(*this); }

LogicalResult QuantizeWideOp::verify() {
  int64_t tokens = dimOf(getX(), 0), columns = dimOf(getX(), 1);
  int64_t blocks = ceilDiv(columns, kRowGroup);
  int64_t padded = ShapedType::isDynamic(blocks) ? blocks : blocks * kRowGroup;
  if (!hasShape(getHighOuts(), {tokens, padded}) ||
      !hasShape(getLowOuts(), {tokens, padded}) ||
      !hasShape(getScaleOuts(), tokens))
    return emitOpError("(C1) x [N, K] needs high and low [N, K'], K' a "
                       "multiple of 16, and scale [N]");
  return check(*this,
               haveSums(getSumOuts(), tokens, countGroups(columns, getGroup())),
               "(C2) sums is not [N, groups]");
}

//===----------------------------------------------------------------------===//
// Packed weights

LogicalResult PackedParameterOp::verify() {
  std::optional<int64_t> offset = getConstantIntValue(getOffset());
  return check(*this, !offset || *offset % 64 == 0,
               "(C1) offset is not a multiple of 64");
}

static LogicalResult verifyTables(PackedMatmulOp op) {
  bool usesTables = op.getLayout().usesTables();
  if (usesTables != bool(op.getTables()))
    return op.emitOpError("(C4) tables are ")
           << (usesTables ? "missing" : "not what the layout reads");
  if (!usesTables)
    return success();
  if (op.getGroup() || shapeOf(op.getQ()).size() != 2)
    return op.emitOpError(
        "(C5) l3 has no scales of groups, and its q is a matrix");
  int64_t columns = dimOf(op.getQ(), 1);
  int64_t size = ShapedType::isDynamic(columns)
                     ? columns
                     : op.getLayout().getTableBytes(columns);
  return check(op,
               dimOf(op.getTables(), 0) > 0 &&
                   compatible(dimOf(op.getTables(), 1), size),
               "(C4) tables do not fit layout and columns");
}

LogicalResult PackedMatmulOp::verify() {
  ArrayRef<int64_t> q = shapeOf(getQ()), tokens = shapeOf(getScale());
  size_t numTokenDims = tokens.size();
  if (q.size() <= numTokenDims || shapeOf(getOuts()).size() != numTokenDims + 1)
    return emitOpError("(C1) q, scale and outs differ in dimensions of tokens");
  ArrayRef<int64_t> columns = q.drop_front(numTokenDims);
  bool isMatrix = q.size() == 2;
  int64_t width = shapeOf(getOuts()).back();
  if (!llvm::equal(q.take_front(numTokenDims), tokens, compatible) ||
      !llvm::equal(shapeOf(getOuts()).drop_back(), tokens, compatible) ||
      !llvm::equal(shapeOf(getSum()).take_front(numTokenDims), tokens,
                   compatible) ||
      !divisible(width, kRowGroup) ||
      (!isMatrix &&
       (ShapedType::isDynamicShape(columns) || !divisible(columns.back(), 4))))
    return emitOpError("(C1) q [N.., K'..] needs scale and sum [N..], outs "
                       "[N.., W], W a multiple of ")
           << kRowGroup << ", and lines of columns whose size is one of 4";
  int64_t numColumns =
      isMatrix ? columns[0] : ShapedType::getNumElements(columns);
  int64_t size = getPackedBytes(getLayout(), width, numColumns);
  int64_t rowGroups = ceilDiv(width, kRowGroup);
  if (!getLayout().packsTrits() || !hasShape(getWeights(), size) ||
      !compatible(dimOf(getScales(), 0), rowGroups))
    return emitOpError("(C2) weights or scales do not fit layout and shapes");
  std::optional<int64_t> numGroups = countGroups(numColumns, getGroup());
  SmallVector<int64_t> scales = {rowGroups}, sums(tokens);
  if (numGroups) {
    scales.append({*numGroups, kRowGroup});
    sums.push_back(*numGroups);
  }
  if (!hasShape(getSum(), sums) || !hasShape(getScales(), scales))
    return emitOpError("(C3) sum or scales have groups, or with group not "
                       "[N, groups] and [W / 16, groups, 16]");
  return verifyTables(*this);
}

LogicalResult PackedLinearOp::verify() {
  if (!compatible(dimOf(getOuts(), 0), dimOf(getX(), 0)))
    return emitOpError("(C1) x [N, K] needs outs [N, W]");
  int64_t size =
      getPackedBytes(getLayout(), dimOf(getOuts(), 1), dimOf(getX(), 1));
  if (getLayout().packsTrits() || !hasShape(getWeights(), size))
    return emitOpError("(C2) weights do not fit layout and shapes");
  return check(*this, !getGroups() || getLayout().getTileRows() == kRowGroup,
               "(C3) groups need tiles of 16 rows");
}

LogicalResult PackedQuantizedLinearOp::verify() {
  int64_t tokens = dimOf(getHigh(), 0), columns = dimOf(getHigh(), 1);
  if (!hasShape(getLow(), {tokens, columns}) || !hasShape(getScale(), tokens) ||
      !compatible(dimOf(getOuts(), 0), tokens))
    return emitOpError(
        "(C1) high and low [N, K'] need scale [N] and outs [N, W]");
  int64_t width = dimOf(getOuts(), 1);
  int64_t group = getCodeFormatInfo(getLayout().getFormat()).group;
  bool isDynamic =
      ShapedType::isDynamic(width) || ShapedType::isDynamic(columns);
  int64_t size =
      isDynamic ? ShapedType::kDynamic : getLayout().getSize(width, columns);
  return check(*this,
               hasShape(getSums(), {tokens, ceilDiv(columns, group)}) &&
                   hasShape(getWeights(), size),
               "(C2) sums or weights do not fit layout and shapes");
}

//===----------------------------------------------------------------------===//
// Vectors

LogicalResult UnpackOp::verify() {
  return check(*this, getPlane() < 4, "(C1) plane is not 0..3");
}

template <typename OpTy> static LogicalResult verifyDot(OpTy op) {
  int64_t lanes = op.getAcc().getType().getNumElements();
  return check(op,
               op.getCodes().getType().getNumElements() == 4 * lanes &&
                   op.getQ().getType().getNumElements() == 4 * lanes,
               "(C1) codes and q need four elements per element of acc");
}

LogicalResult DotOp::verify() { return verifyDot(*this); }

LogicalResult DotSignedOp::verify() { return verifyDot(*this); }

int64_t DotBlockOp::getNumColumns() {
  int64_t vectors = cast<MemRefType>(getCodes().getType()).getDimSize(1);
  return std::min(cast<MemRefType>(getQ().getType()).getDimSize(1),
                  vectors / 16 * kPanelColumns);
}

void DotBlockOp::cloneWork(OpBuilder &builder, Value index) {
  Block &block = getMeanwhile().front();
  IRMapping mapping;
  mapping.map(block.getArgument(0), index);
  for (Operation &op : block)
    builder.clone(op, mapping);
}

LogicalResult DotBlockOp::verify() {
  int64_t columns = cast<MemRefType>(getQ().getType()).getDimSize(1);
  ArrayRef<int64_t> codes = cast<MemRefType>(getCodes().getType()).getShape();
  ArrayRef<int64_t> acc = cast<MemRefType>(getAcc().getType()).getShape();
  if (failed(check(*this, columns >= kPanelColumns && columns % 4 == 0,
                   "(C1) q needs a multiple of 4 columns, at least 64")))
    return failure();
  int64_t numPanels = llvm::divideCeil(columns, kPanelColumns);
  if (failed(check(
          *this,
          codes.size() == 3 && acc.size() == 3 && codes[0] == acc[0] &&
              codes[1] > 0 && codes[1] % 16 == 0 &&
              codes[1] <= 16 * numPanels && codes[2] == 64 &&
              acc[1] % 32 == 0 && acc[2] == kRowGroup,
          "(C2) codes need panels of 16 x 64, not beyond all columns, acc "
          "[planes, a multiple of 32, 16]")))
    return failure();
  if (getMeanwhile().empty())
    return check(*this, getWork() == 0, "work without a body");
  return check(*this,
               getMeanwhile().getArgumentTypes() ==
                   ArrayRef<Type>(IndexType::get(getContext())),
               "the body of work takes one index");
}

LogicalResult DotPairsOp::verify() {
  int64_t lanes = getAcc().getType().getNumElements();
  return check(*this,
               getCodes().getType().getNumElements() == 2 * lanes &&
                   getQ().getType().getNumElements() == 2 * lanes,
               "(C1) codes and q need two elements per element of acc");
}

LogicalResult AddPairsOp::verify() {
  return check(*this,
               getPairs().getType().getNumElements() ==
                   2 * getAcc().getType().getNumElements(),
               "(C1) pairs need two elements per element of acc");
}

LogicalResult LookupOp::verify() {
  int64_t size = getTable().getType().getNumElements();
  if (!llvm::isPowerOf2_64(size) || size > 256)
    return emitOpError(
        "(C1) size of the table is not a power of two up to 256");
  return check(*this,
               getTable().getType().getElementType() ==
                   getIndices().getType().getElementType(),
               "(C2) elements of table and indices differ");
}

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

/// Zero codes or activations leave the accumulator as it is.
OpFoldResult DotOp::fold(FoldAdaptor adaptor) {
  for (Attribute factor : {adaptor.getCodes(), adaptor.getQ()})
    if (factor && matchPattern(factor, m_Zero()))
      return getAcc();
  return {};
}

//===----------------------------------------------------------------------===//
// Fusion
//===----------------------------------------------------------------------===//

Value FusedRowsOp::getOperandOf(Value argument) {
  unsigned number = cast<BlockArgument>(argument).getArgNumber();
  return number < getNumOperands() ? getOperand(number) : Value();
}

LogicalResult FusedRowsOp::verify() {
  auto rows =
      getIns().empty() ? MemRefType() : cast<MemRefType>(getIns()[0].getType());
  if (!rows || rows.getRank() != 2)
    return emitOpError("(C1) the first of ins is not [N, K]");
  Block &block = getBody().front();
  if (block.getNumArguments() < getNumOperands() ||
      !llvm::equal(
          getOperandTypes(),
          TypeRange(block.getArgumentTypes()).take_front(getNumOperands())))
    return emitOpError("(C2) the block's arguments are not the op's");
  for (BlockArgument argument :
       block.getArguments().drop_front(getNumOperands())) {
    auto type = dyn_cast<MemRefType>(argument.getType());
    SmallVector<int64_t> strides;
    int64_t offset;
    if (!type || type.getRank() != 2 || !type.isDynamicDim(0) ||
        type.isDynamicDim(1) || !type.getElementType().isF32() ||
        failed(type.getStridesAndOffset(strides, offset)) || offset != 0 ||
        strides != ArrayRef<int64_t>({0, 1}))
      return emitOpError("(C2) a row of a worker is no "
                         "memref<?xKxf32, strided<[0, 1]>>");
  }
  for (Operation &op : block)
    if (isa<TernaryDialect>(op.getDialect()) && !op.hasTrait<WorksOnRows>() &&
        !isa<WorkerScratchOp>(op))
      return op.emitOpError("(C3) does not work on rows");
  return success();
}

#define GET_OP_CLASSES
#include "dialect/Ternary/TernaryOps.cpp.inc"
