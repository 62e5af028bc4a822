// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// packed_matmul: every remainder of K, rows and tokens; the largest sums; every
// schedule that a layout can ask for; scales of groups.

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

struct Matmul {
  int64_t rows, columns;
  Values values = Values::Random;
  llvm::SmallVector<int64_t> tokens = {1, 2,  3,  4,  5,  6,  7, 8,
                                       9, 10, 11, 12, 13, 31, 37};
  std::optional<int64_t> group = {};
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
  int64_t groupSize = matmul.group.value_or(columns);
  int64_t numGroups = llvm::divideCeil(columns, groupSize);

  Bytes weights({width, columns}), q({maxTokens, columns});
  for (int64_t m = 0; m < matmul.rows; ++m)
    for (int64_t k = 0; k < matmul.columns; ++k)
      weights.row(m)[k] = getTrit(matmul.values, random, m, k);
  llvm::SmallVector<int64_t> accShape = {maxTokens, width},
                             scalesShape = {width / ternary::kRowGroup};
  if (matmul.group) {
    accShape.insert(accShape.begin() + 1, numGroups);
    scalesShape.append({numGroups, ternary::kRowGroup});
  }
  Ints sum({maxTokens, numGroups}), acc(accShape);
  Floats scale({maxTokens}), scales = random.floats(scalesShape);
  for (int64_t n = 0; n < maxTokens; ++n) {
    scale.data[n] = random.integer(1, 1000) / 7.0f;
    for (int64_t k = 0; k < matmul.columns; ++k)
      sum.row(n)[k / groupSize] += q.row(n)[k] = getQ(matmul.values, random, k);
  }
  reference::matmul(q, weights, 0, acc, matmul.group);
  Floats expected = rescaleAll(acc, scale, scales);

  std::vector<uint8_t> packed(layout.getPackedBytes(width, columns));
  packTrits(layout, weights.data, columns, packed);

  std::string layoutText, group, tablesArgument, tables;
  llvm::raw_string_ostream(layoutText) << layout;
  if (matmul.group)
    group = llvm::formatv(" group = {0}", *matmul.group);
  // Room for fewer tokens than there are, so that it serves several times.
  int64_t tableTokens = 2 * layout.getTokens(), tableBytes = 1;
  if (layout.usesTables()) {
    tableBytes = layout.getTableBytes(columns);
    std::string type =
        llvm::formatv("memref<{0}x{1}xi8>", tableTokens, tableBytes);
    tablesArgument = ", %tables: " + type;
    tables = " tables(%tables : " + type + ")";
  }
  std::string qType = rowsType(columns, "i8"), yType = rowsType(width),
              sumType = matmul.group ? rowsType(numGroups, "i32")
                                     : std::string("memref<?xi32>"),
              wType = memrefType(packed.size(), "i8"),
              scalesType = memrefType(scales.shape, "f32");
  KernelJIT &run = compile(
      target,
      llvm::formatv("%q: {0}, %scale: memref<?xf32>, %sum: {1}, %w: {2}, "
                    "%scales: {3}, %y: {4}{5}",
                    qType, sumType, wType, scalesType, yType, tablesArgument),
      llvm::formatv(
          "ternary.packed_matmul {0}{1} ins(%q, %scale, %sum, %w, %scales : "
          "{2}, memref<?xf32>, {3}, {4}, {5}) outs(%y : {6}){7}",
          layoutText.substr(kLayoutPrefix.size()), group, qType, sumType, wType,
          scalesType, yType, tables));

  Rows<int8_t> qRows(q, kEndOfRow);
  Rows<int32_t> sumRows(sum, kEndOfRow);
  std::vector<int8_t> tableMemory(tableTokens * tableBytes, kEndOfRow);
  for (int64_t n : matmul.tokens) {
    Rows<float> y(maxTokens, width, kUntouched);
    auto runWith = [&](auto sum, auto scales, auto... tables) {
      run(qRows.first(n), makeMemRef(scale.data), sum, makeMemRef(packed),
          scales, y.first(n), tables...);
    };
    if (matmul.group)
      runWith(sumRows.first(n),
              makeContiguous<float, 3>(
                  scales.data.data(),
                  {scales.shape[0], numGroups, ternary::kRowGroup}));
    else if (layout.usesTables())
      runWith(makeMemRef(sum.data), makeMemRef(scales.data),
              makeMemRef(tableMemory, tableBytes, tableBytes));
    else
      runWith(makeMemRef(sum.data), makeMemRef(scales.data));
    y.expect(expected, n);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

/// Those that have what the matmul asks for: l3 has no scales of groups.
llvm::ArrayRef<Packing> getPackings(const Matmul &matmul) {
  static constexpr Packing kPackings[] = {Packing::I2, Packing::T5, Packing::T3,
                                          Packing::L3};
  return llvm::ArrayRef(kPackings).drop_back(matmul.group ? 1 : 0);
}

int64_t getMaxChain(Packing packing) {
  return packing == Packing::L3 ? ternary::kMaxTableChain : ternary::kMaxChain;
}

/// Each packing, with the schedule of the backend.
void addMatmul(std::vector<Case> &cases, const llvm::Twine &name, bool isFast,
               Matmul matmul) {
  for (Packing packing : getPackings(matmul))
    cases.push_back(
        {llvm::formatv("matmul_{0}_{1}_{2}x{3}", stringifyPacking(packing),
                       name.str(), matmul.rows, matmul.columns),
         isFast,
         [=](const TargetSpec &target) {
           mlir::MLIRContext context;
           context.loadDialect<ternary::TernaryDialect>();
           Schedule schedule = getBackend(target).getSchedule(
               packing, {matmul.rows, matmul.columns, matmul.group.value_or(0)},
               target);
           runMatmul(target, matmul,
                     LayoutAttr::getTrits(&context, packing, schedule));
         },
         /*hasDots=*/packing != Packing::L3});
}

/// Each packing with another schedule than the backend's.
void addSchedule(std::vector<Case> &cases, bool isFast, Schedule schedule,
                 Matmul matmul = {112, 100}) {
  for (Packing packing : getPackings(matmul))
    cases.push_back(
        {llvm::formatv(
             "schedule_{0}_lanes{1}_unroll{2}_tokens{3}_prefetch{4}_"
             "chain{5}_{6}x{7}_{8}{9}{10}{11}",
             stringifyPacking(packing), schedule.lanes, schedule.unroll,
             schedule.tokens, schedule.prefetch, schedule.chain, matmul.rows,
             matmul.columns, int(matmul.values),
             matmul.group ? "_group" + std::to_string(*matmul.group) : "",
             schedule.blocks ? "_blocks" : "",
             schedule.streams > 1
                 ? "_streams" + std::to_string(schedule.streams)
                 : ""),
         isFast,
         [=](const TargetSpec &target) {
           mlir::MLIRContext context;
           context.loadDialect<ternary::TernaryDialect>();
           Schedule selected = getBackend(target).getSchedule(
               packing, {matmul.rows, matmul.columns, matmul.group.value_or(0)},
               target);
           Schedule changed = schedule;
           // Also where the backend keeps codes in place and where it does not.
           if (packing != Packing::L3) {
             changed.inPlace = schedule.chain == 1 && !selected.inPlace;
             changed.planeMajor = !selected.planeMajor;
           } else {
             changed.blocks = false;
             changed.streams = 1;
           }
           changed.parts = selected.parts ? 0 : 3;
           changed.chain = std::min(changed.chain, getMaxChain(packing));
           runMatmul(target, matmul,
                     LayoutAttr::getTrits(&context, packing, changed));
         },
         /*hasDots=*/packing != Packing::L3 && schedule.chain == 1});
}

/// Every size of group, with a last one that is shorter, in tiles and strips;
/// cells of t5 and t3 end anywhere in groups. The number of groups, the largest
/// sums and other schedules than the selected ones with one size or two.
void addGroupCases(std::vector<Case> &cases) {
  for (int64_t group : {16, 32, 64, 128, 256})
    addMatmul(cases, "group" + llvm::Twine(group), false,
              {144, 6 * group + 39, Values::Random, {1, 2, 3, 7, 31}, group});
  for (int64_t columns : {20, 32, 65})
    addMatmul(cases, "group32", columns == 65,
              {144, columns, Values::Random, {1, 2, 7}, 32});
  for (auto values : {Values::LargestPositive, Values::LargestNegative})
    addMatmul(cases, "group256_" + llvm::Twine(int(values)), false,
              {144, 800, values, {1, 2, 7}, 256});
  for (auto [lanes, chain, unroll, group] :
       {std::tuple(4, 1, 3, 32), std::tuple(8, 2, 1, 32),
        std::tuple(16, 2, 1, 256)})
    addSchedule(cases, false,
                {.lanes = lanes, .unroll = unroll, .tokens = 2, .chain = chain},
                {112, 2 * group + 16, Values::Mixed, {1, 2, 3}, group});
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
  // What is unpacked for many tokens: panels of K, or of some packings all of
  // it, from any number of tokens on.
  for (int64_t columns : {576, 592})
    addMatmul(cases, "panels", columns == 576,
              {80, columns, Values::Random, {23, 24, 96, 131}});
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
  // Every pair of their values, not every three.
  for (auto [lanes, tokens, unroll] :
       {std::tuple(4, 1, 1), std::tuple(4, 4, 3), std::tuple(4, 6, 1),
        std::tuple(8, 1, 3), std::tuple(8, 4, 1), std::tuple(8, 6, 3),
        std::tuple(16, 1, 1), std::tuple(16, 4, 3), std::tuple(16, 6, 1)})
    addSchedule(cases, lanes == 8 && tokens == 4,
                {.lanes = lanes,
                 .unroll = unroll,
                 .tokens = tokens,
                 .prefetch = unroll == 1 ? 0 : 1024});
  // Chains in i16, short ones and at the end of their range, which no number of
  // lanes changes; lanes that an instruction has, and that it has not. K is
  // chains and a rest, or whole ones.
  for (int64_t lanes : {2, 4, 8, 16}) {
    addSchedule(cases, lanes == 8, {.lanes = lanes, .tokens = 2, .chain = 2},
                {112, 100, Values::Random, {1, 2, 3}});
    for (auto values :
         {Values::Random, Values::LargestPositive, Values::LargestNegative})
      if (lanes == 8 || values == Values::LargestNegative)
        addSchedule(cases, lanes == 8 && values == Values::LargestNegative,
                    {.lanes = lanes, .unroll = 3, .tokens = 2, .chain = 64},
                    {112, 2560, values, {1, 2, 3}});
  }
  // The largest codes in place, where the backend has them shifted down.
  for (auto values :
       {Values::Mixed, Values::LargestPositive, Values::LargestNegative})
    for (int64_t lanes : {4, 8, 16})
      addSchedule(cases, lanes == 8 && values == Values::LargestPositive,
                  {.lanes = lanes, .tokens = 2}, {144, 256, values, {1, 2, 3}});
  // Blocks also where no matrix unit multiplies them; K is whole panels or not,
  // or several blocks.
  for (int64_t lanes : {4, 16})
    for (int64_t columns : {112, 128, 1920})
      addSchedule(cases, lanes == 16 && columns != 128,
                  {.lanes = lanes, .tokens = 2, .blocks = true},
                  {144, columns, Values::Mixed, {1, 8, 17, 33, 131}});
  // Parts of K side by side; cells and steps that are left beyond them.
  for (auto [lanes, unroll, streams] :
       {std::tuple(4, 4, 2), std::tuple(8, 3, 3), std::tuple(16, 4, 4)})
    for (int64_t columns : {24, 100, 2600})
      addSchedule(cases, lanes == 16 && columns == 100,
                  {.lanes = lanes,
                   .unroll = unroll,
                   .tokens = 2,
                   .prefetch = 256,
                   .streams = streams},
                  {112, columns, Values::Mixed, {1, 2, 3}});
  addGroupCases(cases);
}

std::vector<Case> tercet::conformance::getCases() {
  std::vector<Case> cases;
  addMatmulCases(cases);
  addWindowCases(cases);
  addFloatCases(cases);
  addHeadCases(cases);
  addPackedFloatCases(cases);
  return cases;
}
