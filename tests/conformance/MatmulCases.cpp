// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// packed_matmul: every remainder of K, rows and tokens; the largest sums; every
// schedule that a layout can ask for.

#include "tests/conformance/CaseSupport.h"

#include "compiler/Support/PackedLayout.h"
#include "llvm/ADT/Sequence.h"

using namespace tercet;
using namespace tercet::conformance;
using namespace tercet::reference;
using tercet::ternary::LayoutAttr;
using tercet::ternary::Packing;
using tercet::ternary::Schedule;

namespace {

enum class Values { Random, LargestPositive, LargestNegative, Mixed };

constexpr int8_t kEndOfRow = 99;

/// Which the op's syntax leaves out.
constexpr llvm::StringLiteral kPrefix = "#ternary.layout";

struct Matmul {
  int64_t rows, columns;
  Values values = Values::Random;
  llvm::SmallVector<int64_t> tokens = {1, 2,  3,  4,  5,  6,  7, 8,
                                       9, 10, 11, 12, 13, 31, 37};
};

/// Largest: |q| and weights at their limits with one sign. Mixed: at their
/// limits, with signs that change from column to column.
int8_t getQ(Values values, Random &random, int64_t column) {
  switch (values) {
  case Values::Random:
    return random.integer(-128, 127);
  case Values::LargestPositive:
    return 127;
  case Values::LargestNegative:
    return -128;
  case Values::Mixed:
    return column % 2 ? 127 : -128;
  }
  llvm_unreachable("every kind is handled");
}

int8_t getTrit(Values values, Random &random, int64_t row, int64_t column) {
  switch (values) {
  case Values::Random:
    return random.integer(-1, 1);
  case Values::LargestPositive:
  case Values::LargestNegative:
    return row % 2 ? 1 : -1;
  case Values::Mixed:
    return column % 2 == row % 2 ? 1 : -1;
  }
  llvm_unreachable("every kind is handled");
}

void runMatmul(const TargetSpec &target, const Matmul &matmul,
               LayoutAttr layout) {
  Random random(matmul.rows * 31 + matmul.columns);
  int64_t width = llvm::alignTo(matmul.rows, ternary::kRowGroup);
  int64_t columns = llvm::alignTo(matmul.columns, 16);
  int64_t maxTokens = matmul.tokens.back();

  Bytes weights({width, columns}), q({maxTokens, columns});
  for (int64_t m = 0; m < matmul.rows; ++m)
    for (int64_t k = 0; k < matmul.columns; ++k)
      weights.row(m)[k] = getTrit(matmul.values, random, m, k);
  Ints sum({maxTokens}), acc({maxTokens, width});
  Floats scale({maxTokens}), scales({width / ternary::kRowGroup});
  for (int64_t n = 0; n < maxTokens; ++n) {
    scale.data[n] = random.integer(1, 1000) / 7.0f;
    for (int64_t k = 0; k < matmul.columns; ++k)
      sum.data[n] += q.row(n)[k] = getQ(matmul.values, random, k);
  }
  for (float &g : scales.data)
    g = random.integer(1, 1000) / 300.0f;

  Floats expected({maxTokens, width});
  reference::matmul(q, weights, 0, acc);
  for (int64_t group = 0; group < scales.shape[0]; ++group)
    reference::rescale(acc, scale, scales.data[group],
                       group * ternary::kRowGroup,
                       (group + 1) * ternary::kRowGroup, expected);

  std::vector<uint8_t> packed(layout.getPackedBytes(width, columns));
  packTrits(layout, weights.data, columns, packed);

  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  std::string qType = rowsType(columns, "i8"), yType = rowsType(width);
  std::string weightTypes = llvm::formatv("memref<{0}xi8>, memref<{1}xf32>",
                                          packed.size(), scales.data.size());
  KernelJIT run = compile(
      target,
      llvm::formatv("%q: {0}, %scale: memref<?xf32>, %sum: memref<?xi32>, "
                    "%w: memref<{1}xi8>, %scales: memref<{2}xf32>, %y: {3}",
                    qType, packed.size(), scales.data.size(), yType),
      llvm::formatv(
          "ternary.packed_matmul {0} ins(%q, %scale, %sum, %w, %scales : "
          "{1}, memref<?xf32>, memref<?xi32>, {2}) outs(%y : {3})",
          layoutText.substr(kPrefix.size()), qType, weightTypes, yType));

  Rows<int8_t> qRows(q, kEndOfRow);
  for (int64_t n : matmul.tokens) {
    Rows<float> y(maxTokens, width, kUntouched);
    run(qRows.first(n), makeMemRef(scale.data), makeMemRef(sum.data),
        makeMemRef(packed), makeMemRef(scales.data), y.first(n));
    y.expect(expected, n);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

constexpr Packing kPackings[] = {Packing::I2, Packing::T5};

/// Each packing, with the schedule of the backend.
void addMatmul(std::vector<Case> &cases, llvm::StringRef name, bool isFast,
               Matmul matmul) {
  for (Packing packing : kPackings)
    cases.push_back(
        {llvm::formatv("matmul_{0}_{1}_{2}x{3}", stringifyPacking(packing),
                       name, matmul.rows, matmul.columns),
         isFast,
         [=](const TargetSpec &target) {
           mlir::MLIRContext context;
           context.loadDialect<ternary::TernaryDialect>();
           Schedule schedule = getBackend(target).getSchedule(
               packing, {matmul.rows, matmul.columns}, target);
           runMatmul(target, matmul,
                     LayoutAttr::getTrits(&context, packing, schedule));
         },
         /*hasDots=*/true});
}

/// Each packing with another schedule than the backend's.
void addSchedule(std::vector<Case> &cases, bool isFast, Schedule schedule,
                 Matmul matmul = {112, 100}) {
  for (Packing packing : kPackings)
    cases.push_back(
        {llvm::formatv("schedule_{0}_lanes{1}_unroll{2}_tokens{3}_prefetch{4}_"
                       "chain{5}_{6}x{7}_{8}",
                       stringifyPacking(packing), schedule.lanes,
                       schedule.unroll, schedule.tokens, schedule.prefetch,
                       schedule.chain, matmul.rows, matmul.columns,
                       int(matmul.values)),
         isFast,
         [=](const TargetSpec &target) {
           mlir::MLIRContext context;
           context.loadDialect<ternary::TernaryDialect>();
           Schedule selected = getBackend(target).getSchedule(
               packing, {matmul.rows, matmul.columns}, target);
           Schedule changed = schedule;
           // Also where the backend keeps codes in place and where it does not.
           changed.inPlace = schedule.chain == 1 && !selected.inPlace;
           changed.planeMajor = !selected.planeMajor;
           changed.parts = selected.parts ? 0 : 3;
           runMatmul(target, matmul,
                     LayoutAttr::getTrits(&context, packing, changed));
         },
         /*hasDots=*/schedule.chain == 1});
}

} // namespace

void tercet::conformance::addMatmulCases(std::vector<Case> &cases) {
  for (int64_t columns : {1, 3, 4, 15, 16, 17, 63, 64, 65, 100})
    addMatmul(cases, "columns", columns == 17, {80, columns});
  for (int64_t rows : {1, 15, 16, 17, 48, 64, 65, 80, 128, 200})
    addMatmul(cases, "rows", rows == 65, {rows, 48});
  addMatmul(
      cases, "tails", false,
      {80, 100, Values::Random, llvm::to_vector(llvm::seq<int64_t>(1, 131))});
  for (int64_t columns : {2560, 6912, 20000})
    addMatmul(cases, "long", false,
              {80, columns, Values::Random, {1, 2, 7, 13}});
  for (auto [name, values] : {std::pair("positive", Values::LargestPositive),
                              std::pair("negative", Values::LargestNegative),
                              std::pair("mixed", Values::Mixed)}) {
    addMatmul(cases, name, values == Values::Mixed,
              {64, 256, values, {1, 2, 7}});
    addMatmul(cases, name, false, {64, 20000, values, {1, 2, 7}});
  }
  for (int64_t lanes : {4, 8, 16})
    for (int64_t unroll : {1, 3})
      for (int64_t tokens : {1, 4, 6})
        addSchedule(cases, lanes == 8 && unroll == 1 && tokens == 4,
                    {.lanes = lanes,
                     .unroll = unroll,
                     .tokens = tokens,
                     .prefetch = unroll == 1 ? 0 : 1024});
  // Chains in i16, at the end of their range; lanes that an instruction has,
  // and that it has not. K is whole chains, or chains and a rest.
  for (auto values :
       {Values::Random, Values::LargestPositive, Values::LargestNegative})
    for (int64_t lanes : {2, 4, 8, 16})
      for (auto [chain, unroll, columns] :
           {std::tuple(2, 1, 100), std::tuple(64, 3, 2560)})
        addSchedule(
            cases, lanes == 8 && values == Values::LargestNegative,
            {.lanes = lanes, .unroll = unroll, .tokens = 2, .chain = chain},
            {112, columns, values, {1, 2, 3}});
  // The largest codes in place, where the backend has them shifted down.
  for (auto values :
       {Values::Mixed, Values::LargestPositive, Values::LargestNegative})
    for (int64_t lanes : {4, 8, 16})
      addSchedule(cases, lanes == 8 && values == Values::LargestPositive,
                  {.lanes = lanes, .tokens = 2}, {144, 256, values, {1, 2, 3}});
}

std::vector<Case> tercet::conformance::getCases() {
  std::vector<Case> cases;
  addMatmulCases(cases);
  addFloatCases(cases);
  addHeadCases(cases);
  return cases;
}
