// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The quantised head: integers inside a group, one chain over groups.

#include "tests/conformance/CaseSupport.h"

#include "compiler/Support/CodePacking.h"

using namespace tercet;
using namespace tercet::conformance;
using namespace tercet::reference;
using llvm::formatv;
using ternary::CodeFormat;

namespace {

constexpr int64_t kTokens = 5;

/// Rows of zeros, of one huge value among small ones, and of equal extremes.
Floats makeActivations(Random &random, int64_t columns) {
  Floats x = random.floats({kTokens, columns});
  llvm::fill(x.row(1), 0.0f);
  x.row(2)[columns / 2] = 1e30f;
  for (int64_t i = 0; i < columns; ++i)
    x.row(3)[i] = i % 3 == 0 ? -7.0f : 7.0f;
  for (float &value : x.row(4))
    value *= 1e-35f;
  return x;
}

void runQuantizeWide(const TargetSpec &target, int64_t columns, int64_t group) {
  Random random(columns);
  Floats x = makeActivations(random, columns);
  WideActivations expected = quantizeWide(x, group);
  int64_t padded = expected.high.shape[1], groups = expected.sums.shape[1];
  std::string xType = rowsType(columns), qType = rowsType(padded, "i8"),
              sumsType = rowsType(groups, "i32");
  KernelJIT &run = compile(
      target,
      formatv("%x: {0}, %high: {1}, %low: {1}, %scale: memref<?xf32>, "
              "%sums: {2}",
              xType, qType, sumsType),
      formatv("ternary.quantize_wide group = {3} ins(%x : {0}) outs(%high, "
              "%low, %scale, %sums : {1}, {1}, memref<?xf32>, {2})",
              xType, qType, sumsType, group));
  Rows<float> xRows(x, kUntouched);
  Rows<int8_t> high(kTokens, padded, 99), low(kTokens, padded, 99);
  Rows<int32_t> sums(kTokens, groups, 99);
  std::vector<float> scale(kTokens);
  run(xRows.first(), high.first(), low.first(), makeMemRef(scale),
      sums.first());
  high.expect(expected.high);
  low.expect(expected.low);
  sums.expect(expected.sums);
  EXPECT_EQ(std::memcmp(scale.data(), expected.scale.data.data(),
                        kTokens * sizeof(float)),
            0);
}

struct Head {
  int64_t rows, columns;
  /// Of the layout; 0: what the backend selects.
  int64_t tileRows = 0, lanes = 0, parts = 0, tokens = 0, prefetch = 0;
};

void runHead(const TargetSpec &target, CodeFormat format, Head head) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  ternary::CodeLayoutAttr layout =
      getBackend(target).selectHeadLayout(&context, format, target);
  if (head.tileRows)
    layout = ternary::CodeLayoutAttr::get(&context, format, head.tileRows,
                                          head.lanes, head.parts, head.tokens,
                                          head.prefetch);
  Random random(head.rows + head.columns);
  Floats weight = random.floats({head.rows, head.columns});
  // Extreme codes in every place, so that sums reach their bounds.
  for (int64_t k = 0; k < head.columns; ++k)
    weight.row(0)[k] = k % 3 == 0 ? 1.0f : -1.0f;
  CodeMatrix codes = encodeRows(format, weight.data, head.columns);
  WideActivations x = quantizeWide(makeActivations(random, head.columns),
                                   ternary::getCodeFormatInfo(format).group);
  Floats expected = quantizedLinear(x, codes, head.rows);
  int64_t padded = x.high.shape[1], groups = x.sums.shape[1];
  std::vector<uint8_t> packed(layout.getSize(head.rows, padded));
  packCodes(layout, codes, packed);

  std::string layoutText;
  llvm::raw_string_ostream(layoutText) << layout;
  std::string qType = rowsType(padded, "i8"),
              sumsType = rowsType(groups, "i32"), yType = rowsType(head.rows),
              wType = formatv("memref<{0}xi8>", packed.size());
  KernelJIT &run = compile(
      target,
      formatv("%high: {0}, %low: {0}, %scale: memref<?xf32>, %sums: {1}, "
              "%w: {2}, %y: {3}",
              qType, sumsType, wType, yType),
      formatv("ternary.packed_quantized_linear {4} ins(%high, %low, %scale, "
              "%sums, %w : {0}, {0}, memref<?xf32>, {1}, {2}) outs(%y : {3})",
              qType, sumsType, wType, yType,
              llvm::StringRef(layoutText)
                  .substr(llvm::StringRef("#ternary.code_layout").size())));
  Rows<int8_t> high(x.high, 99), low(x.low, 99);
  Rows<int32_t> sums(x.sums, 99);
  for (int64_t n = 1; n <= kTokens; ++n) {
    Rows<float> y(kTokens, head.rows, kUntouched);
    run(high.first(n), low.first(n), makeMemRef(x.scale.data), sums.first(n),
        makeMemRef(packed), y.first(n));
    y.expect(expected, n);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

} // namespace

void tercet::conformance::addHeadCases(std::vector<Case> &cases) {
  using Target = const TargetSpec &;
  for (int64_t k : {1, 15, 16, 17, 64, 100, 2560})
    for (int64_t group : {16, 64})
      cases.push_back({formatv("quantize_wide_{0}_{1}", k, group), k == 100,
                       [=](Target t) { runQuantizeWide(t, k, group); }});
  for (CodeFormat format : {CodeFormat::I8, CodeFormat::Q6, CodeFormat::Q4}) {
    auto add = [&](Head head, bool isFast) {
      std::string name =
          formatv("head_{0}_{1}x{2}", ternary::stringifyCodeFormat(format),
                  head.rows, head.columns);
      if (head.tileRows)
        name += formatv("_tile{0}_lanes{1}_parts{2}", head.tileRows, head.lanes,
                        head.parts);
      cases.push_back({name, isFast,
                       [=](Target t) { runHead(t, format, head); },
                       /*hasDots=*/head.tileRows == 0});
    };
    for (int64_t columns : {1, 3, 16, 33, 63, 64, 65, 97, 128, 200})
      add({80, columns}, columns == 97);
    for (int64_t rows : {1, 15, 16, 17, 64, 65, 130})
      add({rows, 96}, rows == 17);
    add({70, 2560}, false);
    add({20, 20000}, false);
    for (auto [lanes, parts] :
         {std::pair(4, 1), std::pair(4, 4), std::pair(8, 1), std::pair(8, 2),
          std::pair(16, 1)}) {
      add({50, 100, /*tileRows=*/16, lanes, parts, /*tokens=*/3,
           /*prefetch=*/0},
          false);
      add({50, 100, /*tileRows=*/48, lanes, parts, /*tokens=*/1,
           /*prefetch=*/1024},
          false);
    }
    // Vectors of several row groups at a time, and of a part of one.
    for (auto [lanes, parts] : {std::pair(8, 4), std::pair(16, 2)})
      add({50, 100, /*tileRows=*/64, lanes, parts, /*tokens=*/2,
           /*prefetch=*/1024},
          lanes == 8);
  }
}
