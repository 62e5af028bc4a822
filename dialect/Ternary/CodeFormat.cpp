// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/Ternary.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet::ternary;

/// Groups by what they cost and save: docs/decisions/0007-head-formats.md.
CodeFormatInfo tercet::ternary::getCodeFormatInfo(CodeFormat format) {
  switch (format) {
  case CodeFormat::I8:
    return {{/*bits=*/8}, /*group=*/64, /*hasMinimum=*/false};
  case CodeFormat::Q6:
    return {{/*bits=*/6}, /*group=*/64, /*hasMinimum=*/false};
  case CodeFormat::Q4:
    return {{/*bits=*/4}, /*group=*/64, /*hasMinimum=*/true};
  }
  llvm_unreachable("unknown format");
}

LogicalResult
CodeLayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                       CodeFormat format, int64_t tileRows, int64_t lanes,
                       int64_t parts, int64_t tokens, int64_t prefetch) {
  if (tileRows <= 0 || tileRows % kRowGroup != 0)
    return emitError() << "tile_rows = " << tileRows
                       << " is not a multiple of 16";
  if (lanes <= 0 || kRowGroup % lanes != 0 || parts <= 0 ||
      tileRows % (lanes * parts) != 0 || tokens <= 0 || prefetch < 0)
    return emitError() << "lanes must divide 16 and lanes * parts tile_rows, "
                          "tokens must be positive, prefetch not negative";
  return success();
}

int64_t CodeLayoutAttr::getGroupSize(int64_t columns) const {
  CodeFormatInfo info = getCodeFormatInfo(getFormat());
  return getTileRows() * info.scaleSize() +
         llvm::divideCeil(columns, info.chunkColumns()) *
             (getTileRows() / kRowGroup) * info.chunkSize();
}

int64_t CodeLayoutAttr::getTileSize(int64_t columns) const {
  int64_t group = getCodeFormatInfo(getFormat()).group;
  int64_t rest = columns % group;
  return columns / group * getGroupSize(group) +
         (rest ? getGroupSize(rest) : 0);
}

int64_t CodeLayoutAttr::getSize(int64_t rows, int64_t columns) const {
  return int64_t(llvm::divideCeil(rows, getTileRows())) * getTileSize(columns);
}
