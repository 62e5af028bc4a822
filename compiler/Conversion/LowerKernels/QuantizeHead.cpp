// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/QuantizeHead.h"

using namespace mlir;
using namespace tercet;

using Values = KernelBuilder::Values;

QuantizedHead
tercet::quantizeHead(KernelBuilder &b, Value x, Value row, Value column,
                     int64_t headDim,
                     llvm::function_ref<void(Value, int64_t, Value)> store) {
  auto load = [&](Value d, int64_t lanes) {
    return b.load(x, {row, b.addIndex(column, d)}, lanes);
  };
  Value largest = b.forEachVector(
      headDim, b.splat(1e-5f), [&](Value d, int64_t lanes, ValueRange carried) {
        return Values{b.max(b.abs(load(d, lanes)), carried[0])};
      })[0];
  Value absmax = b.maxLanes(largest);
  Value s = b.broadcast(b.div(b.scalar(127), absmax));
  Value sums = b.forEachVector(
      headDim, b.splatInt(0), [&](Value d, int64_t lanes, ValueRange carried) {
        Value codes = b.toInt(b.roundEven(b.mul(load(d, lanes), s)));
        store(d, lanes, codes);
        return Values{b.addInt(codes, carried[0])};
      })[0];
  return {b.div(absmax, b.scalar(127)), b.sumIntLanes(sums)};
}
