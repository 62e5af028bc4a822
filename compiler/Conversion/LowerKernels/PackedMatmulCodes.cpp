// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From packed bytes to vectors of codes (docs/packings.md): the fields that a
// byte holds, the planes in them, and a tile that is unpacked beforehand.

#include "compiler/Conversion/LowerKernels/PackedMatmulKernel.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// Unpacking takes as long as the dot products of a few tokens, and the same
/// ports. Many blocks of tokens share it: the worker's scratch gets the codes
/// of every step of a panel, one vector or more, as floats. From then on a step
/// is a cell.
void PackedMatmulKernel::expandPanel(Value firstCell) {
  int64_t steps = llvm::divideCeil(panelColumns, getStepColumns());
  Value scratch = b.workerScratch(steps * getNumExpanded() * kRowGroup);
  firstStep = b.mulIndex(firstCell, cell.steps);
  auto parts = getAllParts();
  auto expandCell = [&](Value index, int64_t columns) {
    forEachStep(
        {index, 0, columns}, parts, /*sums=*/{},
        [&](CellRange step, ArrayRef<Values> fields, MutableArrayRef<Value>) {
          for (int64_t part : parts)
            for (auto [i, vector] : llvm::enumerate(
                     expandsPlanes() ? getPlanes(fields[part]) : fields[part]))
              vector::StoreOp::create(
                  b, b.bitcast(floats(), vector), scratch,
                  ValueRange{getExpandedIndex(step.index, i, part)});
        });
  };
  Value end = b.addIndex(firstCell, panelColumns / cell.columns);
  b.loop(firstCell, end, 1, [&](Value index) {
    prefetchCell(index, cell.columns);
    expandCell(index, cell.columns);
  });
  if (int64_t rest = panelColumns % cell.columns)
    expandCell(end, rest);
  expanded = scratch;
  cell = {cell.rows, getStepColumns(), 64 * getNumExpanded()};
}

Value PackedMatmulKernel::getExpandedIndex(Value step, int64_t i,
                                           int64_t part) {
  Value inPanel = b.subIndex(step, firstStep);
  return b.addIndex(b.mulIndex(inPanel, getNumExpanded() * kRowGroup),
                    i * kRowGroup + part * lanes);
}

/// A part of the 64 bytes from `first` on.
Value PackedMatmulKernel::loadPacked(Value first, int64_t part) {
  return b.loadBytes(bytes(), op.getWeights(),
                     b.addIndex(first, part * kStep * lanes));
}

/// The fields of a cell of one step, and of t5 the codes of plane 4.
Values PackedMatmulKernel::loadFields(Value index, int64_t part) {
  if (expanded) {
    Values vectors;
    for (int64_t i = 0; i < getNumExpanded(); ++i)
      vectors.push_back(b.bitcast(
          bytes(), vector::LoadOp::create(b, floats(), expanded,
                                          getExpandedIndex(index, i, part))));
    return vectors;
  }
  Value packed =
      loadPacked(b.addIndex(address, b.mulIndex(index, cell.bytes)), part);
  if (layout.getPacking() == Packing::T5)
    return llvm::to_vector_of<Value>(
        UnpackT5Op::create(b, packed)->getResults());
  return {packed};
}

void PackedMatmulKernel::forEachStep(CellRange range, ArrayRef<int64_t> parts,
                                     MutableArrayRef<Value> sums,
                                     StepEmitter emit) {
  if (cell.steps > 1)
    return forEachStepOfT3(range, parts, sums, emit);
  SmallVector<Values> fields;
  for (int64_t part : parts)
    fields.push_back(loadFields(range.index, part));
  emit(range, fields, sums);
}

/// A loop over vectors of nibbles, two steps each: as many steps at once would
/// not find registers. It doubles the signs, so that each vector has its own
/// where the first has them. The steps of a part of a vector are in no loop.
void PackedMatmulKernel::forEachStepOfT3(CellRange range,
                                         ArrayRef<int64_t> parts,
                                         MutableArrayRef<Value> sums,
                                         StepEmitter emit) {
  int64_t setSize = sums.empty() ? 0 : getNumSums(parts);
  int64_t numSets = sums.empty() ? 1 : sums.size() / setSize;
  int64_t stepColumns = getStepColumns();
  Value firstStep = b.mulIndex(range.index, cell.steps);
  Value first = b.addIndex(address, b.mulIndex(range.index, cell.bytes));
  Values firstSigns;
  for (int64_t part : parts)
    firstSigns.push_back(loadPacked(first, part));

  /// Columns of the step `i` of those that begin in `vector`, whose signs have
  /// been doubled for it.
  auto emitStepOf = [&](Value vector, int64_t i, int64_t begin, int64_t end,
                        ArrayRef<Value> signs, MutableArrayRef<Value> sums,
                        std::optional<LaneOfQ> laneOfQ = {}) {
    Value place = b.addIndex(
        first, b.addIndex(b.mulIndex(b.addIndex(vector, i / 2), 64), 64));
    auto unpack = [&](int64_t part, Value sign) {
      Value nibble = loadPacked(place, part);
      if (i % 2)
        nibble = arith::ShRUIOp::create(b, nibble, b.splatInt(4, bytes()));
      // What comes from the byte below stays below bit 7.
      if (int64_t shift = i / 2 + 4 * (i % 2))
        sign = b.bitcast(bytes(), b.shiftLeft(b.bitcast(pairs(), sign), shift));
      return Values{UnpackT3Op::create(b, nibble, sign)};
    };
    CellRange step = {
        b.addIndex(b.addIndex(firstStep, b.mulIndex(vector, 2)), i), begin, end,
        laneOfQ};
    auto set = sums.slice(i % numSets * setSize, setSize);
    if (takesPartsInTurn() && setSize) {
      int64_t sumsOfPart = setSize / parts.size();
      for (auto [number, part] : llvm::enumerate(parts))
        emit(step, unpack(part, signs[number]),
             set.slice(number * sumsOfPart, sumsOfPart));
      return;
    }
    SmallVector<Values> fields;
    for (auto [part, sign] : llvm::zip_equal(parts, signs))
      fields.push_back(unpack(part, sign));
    emit(step, fields, set);
  };

  // The steps of a vector share q, where columns follow each other.
  auto laneOfQ = [&](int64_t i) -> std::optional<LaneOfQ> {
    if (isStrip)
      return {};
    return LaneOfQ{i % 2, 2};
  };
  int64_t numVectors = std::max<int64_t>(numSets / 2, 1);
  int64_t loopColumns = 2 * numVectors * stepColumns;
  int64_t looped = range.begin ? 0 : range.end / loopColumns * numVectors;
  Values carried(sums);
  llvm::append_range(carried, firstSigns);
  carried =
      b.loop(b.index(0), b.index(looped), numVectors, carried,
             [&](Value vector, ValueRange before) {
               Values carried(before);
               auto sums = MutableArrayRef(carried).drop_back(parts.size());
               auto signs = MutableArrayRef(carried).take_back(parts.size());
               for (int64_t i = 0; i < 2 * numVectors; ++i)
                 emitStepOf(vector, i, 0, stepColumns, signs, sums, laneOfQ(i));
               for (int64_t i = 0; i < numVectors; ++i)
                 for (Value &sign : signs)
                   sign = arith::AddIOp::create(b, sign, sign);
               return carried;
             });
  llvm::copy(ArrayRef(carried).drop_back(parts.size()), sums.begin());
  int64_t begin = std::max(range.begin, 2 * looped * stepColumns);
  for (int64_t i = begin / stepColumns; i * stepColumns < range.end; ++i)
    emitStepOf(b.index(0), i, std::max<int64_t>(begin - i * stepColumns, 0),
               std::min(range.end - i * stepColumns, stepColumns), firstSigns,
               sums);
}

/// The codes of every plane in the fields of a step.
Values PackedMatmulKernel::getPlanes(ArrayRef<Value> fields) {
  if (expanded && expandsPlanes())
    return Values(fields);
  Values planes;
  for (int64_t plane = 0; plane < getNumFields(); ++plane)
    planes.push_back(getPlane(fields[0], plane));
  llvm::append_range(planes, llvm::drop_begin(fields));
  return planes;
}

Value PackedMatmulKernel::getPlane(Value fields, int64_t plane) {
  if (hasLowerFields(plane))
    return fields;
  if (hasHigherFields(plane))
    return plane == 0 ? fields
                      : arith::ShRUIOp::create(b, fields,
                                               b.splatInt(2 * plane, bytes()))
                            .getResult();
  return UnpackOp::create(b, fields, plane, isInPlace(plane));
}
