// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/Bench.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/FormatVariadic.h"

using namespace tercet;
using namespace tercet::bench;
using llvm::formatv;

static constexpr int64_t kColumns = 2560;

/// A head of floats; `layout` without its brackets.
static Case makeFloatHead(int64_t rows, const std::string &layout,
                          int64_t numTokens) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto attribute = llvm::cast<ternary::LayoutAttr>(
      mlir::parseAttribute("#ternary.layout<" + layout + ">", &context));
  int64_t size = attribute.getPackedBytes(rows, kColumns);
  std::string x = getRowsType(kColumns), y = getRowsType(rows);
  auto kernel = std::make_shared<KernelJIT>(makeKernel(
      formatv("%x: {0}, %w: memref<{1}xi8>, %y: {2}", x, size, y),
      formatv("ternary.packed_linear <{0}> ins(%x, %w : {1}, memref<{2}xi8>) "
              "outs(%y : {3})",
              layout, x, size, y)));
  auto weights = wrap(getWeights(size), size);
  auto in = makeFloats(numTokens, kColumns), out = makeFloats(numTokens, rows);
  return makeMatrixCase([=] { (*kernel)(in, weights, out); }, size, rows,
                        kColumns, numTokens);
}

/// `layout` without its brackets.
static Case makeCodes(int64_t rows, const std::string &layout,
                      int64_t numTokens) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto attribute = llvm::cast<ternary::CodeLayoutAttr>(
      mlir::parseAttribute("#ternary.code_layout<" + layout + ">", &context));
  int64_t size = attribute.getSize(rows, kColumns);
  int64_t groups =
      kColumns / ternary::getCodeFormatInfo(attribute.getFormat()).group;
  std::string y = getRowsType(rows);
  auto kernel = std::make_shared<KernelJIT>(makeKernel(
      formatv("%high: memref<?x{0}xi8>, %low: memref<?x{0}xi8>, %scale: "
              "memref<?xf32>, %sums: memref<?x{1}xi32>, %w: memref<{2}xi8>, "
              "%y: {3}",
              kColumns, groups, size, y),
      formatv("ternary.packed_quantized_linear <{0}> ins(%high, %low, %scale, "
              "%sums, %w : memref<?x{1}xi8>, memref<?x{1}xi8>, memref<?xf32>, "
              "memref<?x{2}xi32>, memref<{3}xi8>) outs(%y : {4})",
              layout, kColumns, groups, size, y)));
  auto digits = makeMatrix<int8_t>(numTokens, kColumns);
  auto sums = makeMatrix<int32_t>(numTokens, groups);
  auto scale = makeVector<float>(numTokens);
  auto weights = wrap(getWeights(size), size);
  auto out = makeFloats(numTokens, rows);
  return makeMatrixCase(
      [=] { (*kernel)(digits, digits, scale, sums, weights, out); }, size, rows,
      kColumns, numTokens);
}

void bench::addHeads() {
  constexpr int64_t kRows = 32768; // 168 MB of bf16: more than any cache
  auto addFloats = [](const char *packing, int64_t rows, int64_t tileRows,
                      int64_t unroll, int64_t tokens, int64_t prefetch,
                      int64_t numTokens, int64_t streams = 1) {
    std::string layout =
        formatv("{5}, tile_rows = {0}, lanes = 16, unroll = {1}, tokens = {2}, "
                "prefetch = {3}, streams = {4}",
                tileRows, unroll, tokens, prefetch, streams, packing);
    add(formatv("head/N{0}/", numTokens).str() + toName(layout),
        [=] { return makeFloatHead(rows, layout, numTokens); });
  };
  for (int64_t tileRows : {16, 32, 64, 128})
    for (int64_t unroll : {1, 2, 4})
      for (int64_t prefetch : {0, 1024, 4096})
        for (int64_t streams : {1, 2, 4, 8})
          addFloats("bf16_pairs", kRows, tileRows, unroll, 4, prefetch, 1,
                    streams);
  for (int64_t tokens : {2, 4})
    for (int64_t tileRows : {16, 64, 128})
      addFloats("bf16_pairs", 4096, tileRows, 1, tokens, 0, 32);
  for (const char *packing : {"f16", "q6_k", "q8_0", "q4_k", "q4_0"}) {
    for (int64_t tileRows : {32, 64})
      for (int64_t prefetch : {0, 4096})
        for (int64_t streams : {1, 2, 4})
          addFloats(packing, kRows, tileRows, 1, 4, prefetch, 1, streams);
    for (int64_t tokens : {2, 4})
      for (int64_t tileRows : {32, 64})
        addFloats(packing, 4096, tileRows, 1, tokens, 0, 32);
  }
  auto addCodes = [](const char *format, int64_t rows, int64_t tileRows,
                     int64_t tokens, int64_t prefetch, int64_t numTokens) {
    std::string layout = formatv("{0}, tile_rows = {1}, lanes = 16, parts = 1, "
                                 "tokens = {2}, prefetch = {3}",
                                 format, tileRows, tokens, prefetch);
    add(formatv("codes/N{0}/", numTokens).str() + toName(layout),
        [=] { return makeCodes(rows, layout, numTokens); });
  };
  for (const char *format : {"i8", "q6", "q4"}) {
    for (int64_t tileRows : {32, 64})
      for (int64_t prefetch : {0, 4096})
        addCodes(format, kRows, tileRows, 2, prefetch, 1);
    for (int64_t tileRows : {32, 64})
      for (int64_t tokens : {1, 2, 3, 4})
        addCodes(format, 4096, tileRows, tokens, 0, 8);
  }
}
