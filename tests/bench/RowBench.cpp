// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/Bench.h"

#include "llvm/Support/FormatVariadic.h"

using namespace tercet;
using namespace tercet::bench;
using llvm::formatv;

/// An op on a row of floats: `body` uses %x, %z and %y of type {0}.
static Case makeRow(int64_t columns, const std::string &body) {
  std::string type = getRowsType(columns);
  auto kernel = std::make_shared<KernelJIT>(
      makeKernel(formatv("%x: {0}, %z: {0}, %y: {0}, %w: memref<{1}xf32>, "
                         "%q: memref<?x{1}xi8>, %scale: memref<?xf32>, "
                         "%sum: memref<?xi32>",
                         type, columns),
                 formatv(body.c_str(), type, columns)));
  auto x = makeFloats(1, columns), z = makeFloats(1, columns),
       y = makeFloats(1, columns);
  auto w = makeVector<float>(columns), scale = makeVector<float>(1);
  auto sum = makeVector<int32_t>(1);
  auto q = makeMatrix<int8_t>(1, columns);
  return {[=] { (*kernel)(x, z, y, w, q, scale, sum); }, double(columns),
          kElements};
}

void bench::addRows() {
  auto addRow = [](const char *name, int64_t columns, std::string body) {
    add(formatv("rows/{0}/{1}", name, columns),
        [=] { return makeRow(columns, body); });
  };
  addRow("rms_norm", 2560,
         "ternary.rms_norm ins(%x, %w : {0}, memref<{1}xf32>) outs(%y : {0}) "
         "epsilon = 1.0e-05");
  addRow("quantize_activations", 2560,
         "ternary.quantize_activations ins(%x : {0}) outs(%q, %scale, %sum : "
         "memref<?x{1}xi8>, memref<?xf32>, memref<?xi32>)");
  for (const char *activation : {"relu2", "silu"})
    addRow(activation, 6912,
           std::string("ternary.gated_activation ") + activation +
               " ins(%x, %z : {0}, {0}) outs(%y : {0})");
  addRow("add", 2560, "linalg.add ins(%x, %z : {0}, {0}) outs(%y : {0})");
}
