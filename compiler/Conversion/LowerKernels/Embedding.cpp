// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/BlockWeights.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// A row of a table of floats that are bf16, f16 or f32: cells of a tile's rows
/// by one or two columns.
static void emitFloatRow(EmbeddingOp op, KernelBuilder &b, Value token,
                         Value tile, Value inTile) {
  Value y = op.getOuts();
  LayoutAttr layout = *op.getLayout();
  int64_t numColumns = getNumColumns(y);
  Cell cell = layout.getCell();
  Type element = layout.getPacking() == Packing::F32   ? Type(b.getF32Type())
                 : layout.getPacking() == Packing::F16 ? Type(b.getF16Type())
                                                       : Type(b.getBF16Type());
  Value row = b.addIndex(tile, b.mulIndex(inTile, cell.bytes / cell.rows));
  auto storeColumn = [&](Value index, int64_t half) {
    Value address = b.addIndex(row, b.mulIndex(index, cell.bytes));
    Value weight = b.loadBytes(VectorType::get(1, element), op.getTable(),
                               b.addIndex(address, 2 * half));
    Value column = b.addIndex(b.mulIndex(index, cell.columns), half);
    b.storeScalar(b.extract(b.widen(weight), 0), y, {token, column});
  };
  b.loop(b.index(0), b.index(numColumns / cell.columns), 1, [&](Value index) {
    for (int64_t half = 0; half < cell.columns; ++half)
      storeColumn(index, half);
  });
  if (numColumns % cell.columns)
    storeColumn(b.index(numColumns / cell.columns), 0);
}

/// A row of a table of floats in blocks.
static void emitBlockRow(EmbeddingOp op, KernelBuilder &b, Value token,
                         Value tile, Value inTile) {
  LayoutAttr layout = *op.getLayout();
  BlockFormat format = *layout.getBlockFormat();
  BlockWeights weights(b, layout, op.getTable(), /*lanes=*/1);
  int64_t numBlocks = getNumColumns(op.getOuts()) / format.columns;
  b.loop(b.index(0), b.index(numBlocks), 1, [&](Value block) {
    Value address =
        b.addIndex(tile, b.mulIndex(block, format.size(layout.getTileRows())));
    b.loop(b.index(0), b.index(format.groups()), 1, [&](Value group) {
      BlockWeights::Group scales = weights.loadGroup(address, group, inTile);
      Value first = b.addIndex(b.mulIndex(block, format.columns),
                               b.mulIndex(group, format.group));
      for (int64_t column = 0; column < format.group; column += 4) {
        Value codes = weights.loadCodes(scales, column);
        for (int64_t i = 0; i < 4; ++i)
          b.storeScalar(b.extract(weights.decode(scales, codes, i), 0),
                        op.getOuts(), {token, b.addIndex(first, column + i)});
      }
    });
  });
}

static void emitPackedRow(EmbeddingOp op, KernelBuilder &b, Value token,
                          Value id) {
  LayoutAttr layout = *op.getLayout();
  int64_t tileRows = layout.getTileRows();
  Value tile = b.mulIndex(b.divIndex(id, tileRows),
                          layout.getTileBytes(getNumColumns(op.getOuts())));
  Value inTile = b.remIndex(id, tileRows);
  if (layout.getBlockFormat())
    return emitBlockRow(op, b, token, tile, inTile);
  emitFloatRow(op, b, token, tile, inTile);
}

/// Items: tokens.
static void emitEmbedding(EmbeddingOp op, KernelBuilder &b) {
  Value y = op.getOuts();
  b.parallel(b.dim(op.getTokens(), 0), [&](Value token) {
    Value id = b.toIndex(b.loadScalar(op.getTokens(), token));
    if (cast<MemRefType>(op.getTable().getType()).getRank() == 1)
      return emitPackedRow(op, b, token, id);
    b.forEachVector(getNumColumns(y), [&](Value column, int64_t lanes) {
      Value row = b.widen(b.load(op.getTable(), {id, column}, lanes));
      b.store(row, y, {token, column}, lanes);
    });
  });
}

void tercet::populateEmbeddingPatterns(RewritePatternSet &patterns,
                                       KernelOptions options) {
  patterns.add<KernelPattern<EmbeddingOp>>(patterns.getContext(), emitEmbedding,
                                           options);
}
