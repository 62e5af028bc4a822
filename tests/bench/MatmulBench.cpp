// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/bench/MatmulBench.h"
#include "tests/bench/Bench.h"

#include "compiler/Target/Backend.h"

#include "mlir/IR/MLIRContext.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using namespace tercet;
using namespace tercet::bench;
using llvm::formatv;
using ternary::LayoutAttr;
using ternary::Packing;
using ternary::Schedule;

/// A layout as the syntax of an op has it.
static std::string getText(LayoutAttr layout) {
  std::string text;
  llvm::raw_string_ostream(text) << layout;
  return text.erase(0, strlen("#ternary.layout"));
}

std::shared_ptr<KernelJIT> bench::compileMatmul(LayoutAttr layout, int64_t rows,
                                                int64_t columns,
                                                int64_t group) {
  int64_t size = layout.getPackedBytes(rows, columns);
  std::string y = getRowsType(rows), attribute, sum = "memref<?xi32>";
  std::string scales = formatv("memref<{0}xf32>", rows / 16);
  std::string tablesArgument, tables;
  if (group) {
    int64_t numGroups = llvm::divideCeil(columns, group);
    attribute = formatv(" group = {0}", group);
    sum = formatv("memref<?x{0}xi32>", numGroups);
    scales = formatv("memref<{0}x{1}x16xf32>", rows / 16, numGroups);
  }
  if (layout.usesTables()) {
    std::string type =
        formatv("memref<{0}x{1}xi8>", layout.getTableTokens(columns),
                layout.getTableBytes(columns));
    tablesArgument = ", %tables: " + type;
    tables = " tables(%tables : " + type + ")";
  }
  return std::make_shared<KernelJIT>(makeKernel(
      formatv("%q: memref<?x{0}xi8>, %scale: memref<?xf32>, %sum: {4}, "
              "%w: memref<{1}xi8>, %scales: {2}, %y: {3}{5}",
              columns, size, scales, y, sum, tablesArgument),
      formatv("ternary.packed_matmul {0}{6} ins(%q, %scale, %sum, %w, %scales "
              ": memref<?x{1}xi8>, memref<?xf32>, {5}, memref<{2}xi8>, {3}) "
              "outs(%y : {4}){7}",
              getText(layout), columns, size, scales, y, sum, attribute,
              tables)));
}

static Case makeMatmul(int64_t rows, int64_t columns, int64_t numTokens,
                       Packing packing, const Schedule &schedule,
                       int64_t group) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto layout = LayoutAttr::getTrits(&context, packing, schedule);
  auto kernel = compileMatmul(layout, rows, columns, group);
  int64_t size = layout.getPackedBytes(rows, columns);
  auto q = makeMatrix<int8_t>(numTokens, columns);
  auto scale = makeVector<float>(numTokens);
  auto weights = wrap(getWeights(size), size);
  auto out = makeFloats(numTokens, rows);
  if (group) {
    int64_t numGroups = llvm::divideCeil(columns, group);
    auto sum = makeMatrix<int32_t>(numTokens, numGroups);
    auto scales = makeContiguous<float, 3>(allocate<float>(rows * numGroups),
                                           {rows / 16, numGroups, 16});
    return makeMatrixCase(
        [=] { (*kernel)(q, scale, sum, weights, scales, out); },
        size + rows * numGroups * sizeof(float), rows, columns, numTokens);
  }
  auto scales = makeVector<float>(rows / 16);
  auto sum = makeVector<int32_t>(numTokens);
  std::function<void()> run = [=] {
    (*kernel)(q, scale, sum, weights, scales, out);
  };
  if (layout.usesTables()) {
    auto tables = makeMatrix<int8_t>(layout.getTableTokens(columns),
                                     layout.getTableBytes(columns));
    run = [=] { (*kernel)(q, scale, sum, weights, scales, out, tables); };
  }
  return makeMatrixCase(run, size, rows, columns, numTokens);
}

/// The backend's schedule and its neighbours.
static std::vector<Schedule>
getSchedules(Packing packing, const Schedule &selected, bool isGemm) {
  std::vector<Schedule> schedules = {selected};
  auto add = [&](auto change) {
    schedules.push_back(selected);
    change(schedules.back());
  };
  for (int64_t chain : {1, 16, 32, 64})
    if (chain <= selected.chain)
      add([=](Schedule &s) { s.chain = chain, s.streams = 1; });
  // As narrower registers would.
  for (int64_t chain : {int64_t(1), selected.chain})
    add([=](Schedule &s) {
      s.lanes = std::max<int64_t>(4, selected.lanes / 2), s.chain = chain;
      s.unroll = s.streams = 1, s.tokens = 2;
    });
  if (isGemm) {
    for (int64_t tokens : {1, 2, 3, 4, 6, 8})
      for (bool planeMajor : {false, true})
        if (!planeMajor || packing != Packing::L3)
          add([=](Schedule &s) {
            s.tokens = tokens, s.planeMajor = planeMajor;
          });
    return schedules;
  }
  for (int64_t parts : {1, 2, 4})
    for (int64_t unroll : {1, 2, 4})
      if (parts <= 16 / selected.lanes)
        add([=](Schedule &s) {
          s.unroll = unroll, s.parts = parts, s.streams = 1;
        });
  for (int64_t unroll : {1, 2, 4, 8, 12})
    for (int64_t prefetch : {0, 1024, 4096, 8192})
      for (int64_t streams : {int64_t(1), unroll})
        if (streams == 1 || (packing != Packing::L3 && selected.chain == 1))
          add([=](Schedule &s) {
            s.unroll = unroll, s.prefetch = prefetch, s.streams = streams;
          });
  return schedules;
}

void bench::addMatmuls(const TargetSpec &target) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  llvm::StringSet<> names;
  for (Packing packing : {Packing::I2, Packing::T5, Packing::T3, Packing::L3}) {
    Schedule selected =
        getBackend(target).getSchedule(packing, {2560, 2560}, target);
    auto addCase = [&](const char *kind, int64_t rows, int64_t columns,
                       int64_t numTokens, const Schedule &schedule,
                       int64_t group = 0) {
      auto layout = LayoutAttr::getTrits(&context, packing, schedule);
      std::string name = formatv("{0}/{1}x{2}/N{3}/{4}", kind, rows, columns,
                                 numTokens, toName(getText(layout)));
      if (group)
        name += formatv("/group{0}", group);
      if (names.insert(name).second) // neighbours may be the same
        add(name, [=] {
          return makeMatmul(rows, columns, numTokens, packing, schedule, group);
        });
    };
    for (const Schedule &schedule :
         getSchedules(packing, selected, /*isGemm=*/false)) {
      addCase("gemv", 128 << 10, 4096, 1, schedule); // from memory
      addCase("gemv", 2560, 2560, 1, schedule);      // from a cache
    }
    for (const Schedule &schedule :
         getSchedules(packing, selected, /*isGemm=*/true))
      for (int64_t numTokens : {24, 128, 512})
        addCase("gemm", 2560, 2560, numTokens, schedule);
    if (packing == Packing::L3)
      continue; // has no scales of groups
    for (int64_t group : {32, 64, 128, 256}) {
      addCase("gemv", 128 << 10, 4096, 1, selected, group);
      addCase("gemv", 2560, 2560, 1, selected, group);
      addCase("gemm", 2560, 2560, 512, selected, group);
    }
  }
}
