// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// A row of a bf16_pairs table: one 32-bit word per pair of columns, a tile's
/// rows apart.
static void emitPackedRow(EmbeddingOp op, KernelBuilder &b, Value token,
                          Value id) {
  Value y = op.getOuts();
  LayoutAttr layout = *op.getLayout();
  int64_t numColumns = getNumColumns(y), tileRows = layout.getTileRows();
  Value row = b.addIndex(
      b.mulIndex(b.divIndex(id, tileRows), layout.getTileBytes(numColumns)),
      b.mulIndex(b.remIndex(id, tileRows), 4));
  auto storeColumn = [&](Value pair, int64_t half) {
    Value address = b.addIndex(row, b.mulIndex(pair, tileRows * 4));
    Value weight = b.loadBytes(VectorType::get(1, b.getBF16Type()),
                               op.getTable(), b.addIndex(address, 2 * half));
    Value column = b.addIndex(b.mulIndex(pair, 2), half);
    b.storeScalar(b.extract(b.widen(weight), 0), y, {token, column});
  };
  b.loop(b.index(0), b.index(numColumns / 2), 1, [&](Value pair) {
    storeColumn(pair, 0);
    storeColumn(pair, 1);
  });
  if (numColumns % 2)
    storeColumn(b.index(numColumns / 2), 0);
}

/// Items: tokens.
static void emitEmbedding(EmbeddingOp op, KernelBuilder &b) {
  Value y = op.getOuts();
  b.parallel(b.dim(op.getTokens(), 0), [&](Value token) {
    Value id = b.toIndex(b.loadScalar(op.getTokens(), token));
    if (op.getLayout())
      return emitPackedRow(op, b, token, id);
    b.forEachVector(getNumColumns(y), [&](Value column, int64_t lanes) {
      Value row = b.widen(b.load(op.getTable(), {id, column}, lanes));
      b.store(row, y, {token, column}, lanes);
    });
  });
}

void tercet::populateEmbeddingPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<EmbeddingOp>>(patterns.getContext(),
                                           emitEmbedding);
}
