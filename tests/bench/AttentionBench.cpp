// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/Bench.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/FormatVariadic.h"

using namespace tercet;
using namespace tercet::bench;
using llvm::formatv;
using ternary::KVElement;

/// With several layers, each call takes the next: keys and values then come
/// from memory, as they do in a model.
static Case makeAttention(KVElement element, int64_t count, int64_t layers,
                          int64_t numTokens) {
  constexpr int64_t kvHeads = 5, headDim = 128, group = 4;
  int64_t columns = kvHeads * group * headDim;
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto cacheType = ternary::KVCacheType::get(&context, layers, kvHeads, count,
                                             headDim, element);
  std::string cache, memory;
  llvm::raw_string_ostream(cache) << cacheType;
  llvm::raw_string_ostream(memory) << getKVMemRefType(cacheType);
  std::string type = getRowsType(columns);
  auto kernel = std::make_shared<KernelJIT>(makeKernel(
      formatv("%q: {0}, %positions: memref<?xi32>, %slots: memref<?xi32>, "
              "%memory: {1}, %y: {0}, %layer: index",
              type, memory),
      formatv(
          "%cache = builtin.unrealized_conversion_cast %memory : {1} to {2}\n"
          "ternary.attention ins(%q, %positions, %slots, %cache layer "
          "%layer : {0}, memref<?xi32>, memref<?xi32>, {2}) outs(%y : {0}) "
          "scale = 0.0884",
          type, memory, cache)));
  auto q = makeFloats(numTokens, columns), y = makeFloats(numTokens, columns);
  auto positions = makeVector<int32_t>(numTokens),
       slots = makeVector<int32_t>(numTokens);
  double pairs = 0; // (query head, key)
  for (int64_t n = 0; n < numTokens; ++n) {
    positions.aligned[n] = count - numTokens + n;
    pairs += double(positions.aligned[n] + 1) * kvHeads * group;
  }
  // Its kernel knows the strides. The bytes are a small number in f32, also as
  // a scale, and in bf16.
  int64_t size = getKVSlotSizeInBytes(cacheType);
  auto *data = allocate<uint8_t>(size);
  std::memset(data, 0x30, size);
  MemRef<uint8_t, 2> kv = {data, data, 0, {}, {}};
  auto layer = std::make_shared<int64_t>(0);
  auto run = [=] {
    (*kernel)(q, positions, slots, kv, y, (*layer)++ % layers);
  };
  if (numTokens == 1)
    return {run, double(size) / layers, kBytes};
  return {run, pairs * headDim * 2, kMACs};
}

void bench::addAttention() {
  for (KVElement element : {KVElement::F32, KVElement::BF16, KVElement::Int8}) {
    auto addCase = [&](const char *name, int64_t count, int64_t layers,
                       int64_t numTokens) {
      add(formatv("{0}/{1}/{2}", name, ternary::stringifyKVElement(element),
                  count),
          [=] { return makeAttention(element, count, layers, numTokens); });
    };
    for (int64_t count : {256, 1024, 4096, 8192, 32768})
      addCase("attention", count,
              std::max<int64_t>(1, (64 << 20) / (count * 1280)), 1);
    addCase("attention/cached", 256, 1, 1);
    for (int64_t count : {512, 4096})
      addCase("prefill", count, 1, 512);
  }
}
