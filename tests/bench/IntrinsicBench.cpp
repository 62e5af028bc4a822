// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Generated kernels beside the same by hand, on the same data.

#include "tests/bench/Bench.h"
#include "tests/bench/IntrinsicKernels.h"
#include "tests/bench/MatmulBench.h"

#include "compiler/Support/PackedLayout.h"
#include "compiler/Target/Backend.h"

#include "mlir/IR/MLIRContext.h"
#include "tercet/artifact.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FormatVariadic.h"

#include <optional>

using namespace tercet;
using namespace tercet::bench;
using llvm::formatv;
using ternary::LayoutAttr;
using ternary::Packing;

namespace {

struct ByHand {
  const char *name;
  Packing packing;
  void (*run)(const TernaryMatmul &);
};

/// The generated kernel and the one by hand. They must agree.
struct Pair {
  Case generated, byHand;
};

} // namespace

static Pair makePair(const ByHand &byHand, const TargetSpec &target,
                     int64_t rows, int64_t columns, int64_t numTokens) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto layout = LayoutAttr::getTrits(
      &context, byHand.packing,
      getBackend(target).getSchedule(byHand.packing, {rows, columns}, target));
  std::vector<int8_t> trits(rows * columns);
  for (size_t i = 0; i < trits.size(); ++i)
    trits[i] = int8_t((i * 2654435761u >> 7) % 3) - 1;
  auto weights = makeVector<uint8_t>(layout.getPackedBytes(rows, columns));
  packTrits(layout, trits, columns,
            {weights.aligned, size_t(weights.sizes[0])});

  auto scale = makeVector<float>(numTokens),
       scales = makeVector<float>(rows / 16);
  auto sum = makeVector<int32_t>(numTokens);
  auto q = makeMatrix<int8_t>(numTokens, columns);
  for (int64_t n = 0; n < numTokens; ++n) {
    scale.aligned[n] = float(n + 3);
    for (int64_t k = 0; k < columns; ++k)
      sum.aligned[n] += q.aligned[n * columns + k] =
          int8_t((n * columns + k) * 2654435761u >> 9);
  }
  for (int64_t group = 0; group < rows / 16; ++group)
    scales.aligned[group] = float(group % 7 + 1) / 8;
  auto y = makeFloats(numTokens, rows), z = makeFloats(numTokens, rows);

  auto kernel = compileMatmul(layout, rows, columns);
  auto runGenerated = [=] { (*kernel)(q, scale, sum, weights, scales, y); };
  auto runByHand = [=, run = byHand.run] {
    run({rows, columns, numTokens, q.aligned, scale.aligned, sum.aligned,
         weights.aligned, scales.aligned, z.aligned});
  };
  runGenerated();
  runByHand();
  if (memcmp(y.aligned, z.aligned, numTokens * rows * sizeof(float)) != 0)
    llvm::report_fatal_error(
        formatv("{0} by hand computes something else", byHand.name)
            .str()
            .c_str());
  double work = double(rows) * columns * numTokens;
  return {{runGenerated, work, kMACs}, {runByHand, work, kMACs}};
}

static void addPair(const ByHand &byHand, const TargetSpec &target,
                    int64_t rows, int64_t columns, int64_t numTokens) {
  auto pair = std::make_shared<std::optional<Pair>>();
  auto get = [=]() -> const Pair & {
    if (!*pair)
      *pair = makePair(byHand, target, rows, columns, numTokens);
    return **pair;
  };
  std::string name = formatv("intrinsics/{0}/{1}x{2}/N{3}/", byHand.name, rows,
                             columns, numTokens);
  add(name + "generated", [=] { return get().generated; });
  add(name + "by_hand", [=] { return get().byHand; });
}

/// From the caches, and from memory.
static constexpr int64_t kRows[] = {2560, 128 << 10};

void bench::addIntrinsics(const TargetSpec &target) {
  auto add = [&](const ByHand &byHand, int64_t rows, int64_t numTokens = 1) {
    addPair(byHand, target, rows, 2560, numTokens);
  };
  for (int64_t rows : kRows)
    if (target.has(TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX512VBMI)) {
      add({"i2_gemv", Packing::I2, runI2Gemv}, rows);
      add({"t5_gemv", Packing::T5, runT5Gemv}, rows / 80 * 80);
    } else if (target.has(TERCET_CPU_AVX2) && !target.has(TERCET_CPU_AVXVNNI)) {
      add({"i2_gemv", Packing::I2, runI2GemvAVX2}, rows);
    }
  if (target.has(TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX512VBMI))
    add({"i2_gemm", Packing::I2, runI2Gemm}, 2560, /*numTokens=*/96);
}
