// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The float ops: one evaluation order, so equal bits at every level.

#include "tests/conformance/CaseSupport.h"

#include "compiler/Support/KVCacheLayout.h"
#include "compiler/Support/PackedLayout.h"

#include <cmath>
#include <limits>

using namespace tercet;
using namespace tercet::conformance;
using namespace tercet::reference;
using llvm::formatv;

namespace {

constexpr int64_t kTokens = 7;

template <typename T> T take(llvm::Expected<T> value) {
  return llvm::cantFail(std::move(value));
}

//===----------------------------------------------------------------------===//
// fma
//===----------------------------------------------------------------------===//

struct Triple {
  float a, b, c;
};

/// Floats of every exponent, subnormal ones too.
float anyFloat(Random &random) {
  int64_t exponent = random.integer(0, 254), sign = random.integer(0, 1);
  return llvm::bit_cast<float>(
      uint32_t(sign << 31 | exponent << 23 | random.integer(0, 0x7fffff)));
}

/// A float of few bits: sums of their products are often half-way between two.
float shortFloat(Random &random, int lowest, int highest) {
  return std::ldexp(float(random.integer(-15, 15)),
                    int(random.integer(lowest, highest)));
}

/// One more or less in the last place, or nothing.
float nudge(Random &random, float value) {
  if (value == 0)
    return value;
  return llvm::bit_cast<float>(
      uint32_t(llvm::bit_cast<uint32_t>(value) + random.integer(-1, 1)));
}

/// Exponents that are far apart and that cancel; sums half-way between two
/// floats, normal and subnormal, and near half-way by as little as there is.
Triple makeTriple(Random &random, int64_t kind) {
  float a = anyFloat(random), b = anyFloat(random), c = anyFloat(random);
  switch (kind) {
  case 0:
    return {a, b, c};
  case 1: // a sum of about the size of its terms
    b = std::ldexp(random.integer(-0xffffff, 0xffffff), -24);
    return {a, b, std::ldexp(nudge(random, a), int(random.integer(-50, 26)))};
  case 2: // little is left
    b = std::ldexp(random.integer(0x800000, 0xffffff), -24);
    return {a, b, nudge(random, -a * b)};
  case 3:
    return {shortFloat(random, -30, 30), shortFloat(random, -30, 30),
            shortFloat(random, -60, 60)};
  case 4: // half of the last place of c, and a little
    a = nudge(random, std::ldexp(1.0f, std::ilogb(c) - 23));
    return {a, random.integer(0, 1) ? 0.5f : nudge(random, -0.5f), c};
  case 5: // a product half-way, and a little
    a = std::ldexp(float(random.integer(0, 0x7fffff) | 0x800001),
                   int(random.integer(-100, 100)));
    return {a, 1.5f, shortFloat(random, -149, -100)};
  case 6: // about the largest subnormal number and below
    return {shortFloat(random, -90, -70), nudge(random, std::ldexp(1.0f, -60)),
            std::ldexp(float(random.integer(-0xffffff, 0xffffff)), -149)};
  case 7: // the largest numbers
    return {nudge(random, 0x1p64f), nudge(random, 0x1p63f),
            nudge(random, 0x1.fffffep126f)};
  case 8: { // no numbers among them, beside lanes that are half-way
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float values[] = {kInfinity, -kInfinity, NAN, 0, -0.0f, a};
    auto any = [&] { return values[random.integer(0, 5)]; };
    if (random.integer(0, 1))
      return {any(), any(), any()};
    return {nudge(random, 0x1p-24f), 1, 1};
  }
  }
  llvm_unreachable("no such kind");
}

constexpr int64_t kTripleKinds = 9;

void runFMA(const TargetSpec &target, int64_t kind) {
  constexpr int64_t kCount = 1 << 18;
  Random random(kind);
  std::vector<float> a(kCount), b(kCount), c(kCount), y(kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    // All vectors but one in 64 are of one kind: what one lane needs must not
    // change the others.
    Triple triple = makeTriple(random, i % 64 ? kind : 0);
    a[i] = triple.a, b[i] = triple.b, c[i] = triple.c;
  }
  KernelJIT &run = compile(
      target,
      "%a: memref<?xf32>, %b: memref<?xf32>, %c: memref<?xf32>, "
      "%y: memref<?xf32>",
      formatv("%c0 = arith.constant 0 : index\n"
              "%c16 = arith.constant 16 : index\n"
              "%end = arith.constant {0} : index\n"
              "scf.for %i = %c0 to %end step %c16 {{\n"
              "%0 = vector.load %a[%i] : memref<?xf32>, vector<16xf32>\n"
              "%1 = vector.load %b[%i] : memref<?xf32>, vector<16xf32>\n"
              "%2 = vector.load %c[%i] : memref<?xf32>, vector<16xf32>\n"
              "%3 = math.fma %0, %1, %2 : vector<16xf32>\n"
              "vector.store %3, %y[%i] : memref<?xf32>, vector<16xf32>\n}",
              kCount));
  run(makeMemRef(a), makeMemRef(b), makeMemRef(c), makeMemRef(y));
  for (int64_t i = 0; i < kCount; ++i) {
    float expected = std::fma(a[i], b[i], c[i]);
    if (std::isnan(expected) && std::isnan(y[i]))
      continue;
    ASSERT_EQ(llvm::bit_cast<uint32_t>(y[i]),
              llvm::bit_cast<uint32_t>(expected))
        << formatv("fma({0:x}, {1:x}, {2:x}) is {3:x}, not {4:x}",
                   llvm::bit_cast<uint32_t>(a[i]),
                   llvm::bit_cast<uint32_t>(b[i]),
                   llvm::bit_cast<uint32_t>(c[i]),
                   llvm::bit_cast<uint32_t>(expected),
                   llvm::bit_cast<uint32_t>(y[i]))
               .str();
  }
}

//===----------------------------------------------------------------------===//
// Rows
//===----------------------------------------------------------------------===//

void runRMSNorm(const TargetSpec &target, int64_t columns) {
  Random random(columns);
  Floats x = random.floats({kTokens, columns}), w = random.floats({columns});
  llvm::fill(x.row(1), 0.0f);
  llvm::fill(x.row(2), 1e-20f);
  std::string type = rowsType(columns);
  KernelJIT &run = compile(
      target, formatv("%x: {0}, %w: memref<{1}xf32>, %y: {0}", type, columns),
      formatv("ternary.rms_norm ins(%x, %w : {0}, memref<{1}xf32>) "
              "outs(%y : {0}) epsilon = 1.0e-5",
              type, columns));
  Rows<float> xRows(x, kUntouched), y(kTokens, columns, kUntouched);
  run(xRows.first(), makeMemRef(w.data), y.first());
  y.expect(rmsNorm(x, w, 1e-5f));
}

/// Rows of zeros, of tiny and huge values, and of halves that round to even.
void runQuantizeActivations(const TargetSpec &target, int64_t columns,
                            std::optional<int64_t> group = {}) {
  Random random(columns);
  Floats x = random.floats({kTokens, columns});
  llvm::fill(x.row(1), 0.0f);
  for (float &value : x.row(2))
    value *= 1e-7f;
  for (float &value : x.row(3))
    value *= 1e30f;
  for (int64_t i = 0; i < columns; ++i)
    x.row(4)[i] = i == 0 ? 127 : i % 254 - 126.5f;
  int64_t padded = llvm::alignTo(columns, 16);
  Quantised expected = quantizeActivations(x, padded, group);
  std::string xType = rowsType(columns), qType = rowsType(padded, "i8");
  int64_t numGroups = group ? llvm::divideCeil(columns, *group) : 1;
  std::string groupText = group ? formatv("group = {0} ", *group).str() : "",
              sumType = group ? rowsType(numGroups, "i32") : "memref<?xi32>";
  KernelJIT &run =
      compile(target,
              formatv("%x: {0}, %q: {1}, %scale: memref<?xf32>, %sum: {2}",
                      xType, qType, sumType),
              formatv("ternary.quantize_activations {3}ins(%x : {0}) "
                      "outs(%q, %scale, %sum : {1}, memref<?xf32>, {2})",
                      xType, qType, sumType, groupText));
  Rows<float> xRows(x, kUntouched);
  Rows<int8_t> q(kTokens, padded, 99);
  std::vector<float> scale(kTokens);
  if (group) {
    Rows<int32_t> sums(kTokens, numGroups, 99);
    run(xRows.first(), q.first(), makeMemRef(scale), sums.first());
    sums.expect(expected.sum);
  } else {
    std::vector<int32_t> sum(kTokens);
    run(xRows.first(), q.first(), makeMemRef(scale), makeMemRef(sum));
    EXPECT_EQ(sum, expected.sum.data);
  }
  q.expect(expected.q);
  EXPECT_EQ(std::memcmp(scale.data(), expected.scale.data.data(),
                        kTokens * sizeof(float)),
            0);
}

/// Gates up to where exp saturates.
void runGatedActivation(const TargetSpec &target, int64_t columns,
                        ternary::Activation activation) {
  Random random(columns);
  Floats gate = random.floats({kTokens, columns}, 4);
  Floats up = random.floats({kTokens, columns});
  for (float &value : gate.row(1))
    value *= 40;
  llvm::fill(gate.row(2), -0.0f);
  std::string type = rowsType(columns);
  KernelJIT &run =
      compile(target, formatv("%gate: {0}, %up: {0}, %y: {0}", type),
              formatv("ternary.gated_activation {1} ins(%gate, %up : {0}, {0}) "
                      "outs(%y : {0})",
                      type, ternary::stringifyActivation(activation)));
  Rows<float> gates(gate, kUntouched), ups(up, kUntouched);
  Rows<float> y(kTokens, columns, kUntouched);
  run(gates.first(), ups.first(), y.first());
  y.expect(gatedActivation(activation, gate, up));
}

/// Gate, norm and quantisation in one kernel, with a row of the worker between
/// them that the norm works on in place.
void runFusedRows(const TargetSpec &target, int64_t columns) {
  Random random(columns);
  Floats gate = random.floats({kTokens, columns}, 4);
  Floats up = random.floats({kTokens, columns}), w = random.floats({columns});
  llvm::fill(gate.row(1), 0.0f);
  int64_t padded = llvm::alignTo(columns, 16);
  Quantised expected = quantizeActivations(
      rmsNorm(gatedActivation(ternary::Activation::ReLU2, gate, up), w, 1e-5f),
      padded, {});
  std::string type = rowsType(columns), qType = rowsType(padded, "i8"),
              wType = formatv("memref<{0}xf32>", columns).str(),
              sums = "memref<?xf32>, memref<?xi32>",
              row = formatv("memref<?x{0}xf32, strided<[0, 1]>>", columns);
  KernelJIT &run = compile(
      target,
      formatv("%gate: {0}, %up: {0}, %w: {1}, %q: {2}, %scale: memref<?xf32>, "
              "%sum: memref<?xi32>",
              type, wType, qType),
      formatv("ternary.fused_rows ins(%gate, %up, %w : {0}, {0}, {1}) "
              "outs(%q, %scale, %sum : {2}, {3}) {{\n"
              "^bb0(%gate0: {0}, %up0: {0}, %w0: {1}, %q0: {2}, "
              "%scale0: memref<?xf32>, %sum0: memref<?xi32>, %row: {4}):\n"
              "ternary.gated_activation relu2 ins(%gate0, %up0 : {0}, {0}) "
              "outs(%row : {4})\n"
              "ternary.rms_norm ins(%row, %w0 : {4}, {1}) outs(%row : {4}) "
              "epsilon = 1.0e-5\n"
              "ternary.quantize_activations ins(%row : {4}) "
              "outs(%q0, %scale0, %sum0 : {2}, {3})\n}",
              type, wType, qType, sums, row));
  Rows<float> gates(gate, kUntouched), ups(up, kUntouched);
  Rows<int8_t> q(kTokens, padded, 99);
  std::vector<float> scale(kTokens);
  std::vector<int32_t> sum(kTokens);
  run(gates.first(), ups.first(), makeMemRef(w.data), q.first(),
      makeMemRef(scale), makeMemRef(sum));
  q.expect(expected.q);
  EXPECT_EQ(sum, expected.sum.data);
  EXPECT_EQ(std::memcmp(scale.data(), expected.scale.data.data(),
                        kTokens * sizeof(float)),
            0);
}

void runAdd(const TargetSpec &target, int64_t columns) {
  Random random(columns);
  Floats a = random.floats({kTokens, columns}),
         b = random.floats({kTokens, columns});
  Floats expected = a;
  for (auto [sum, term] : llvm::zip(expected.data, b.data))
    sum = sum + term;
  std::string type = rowsType(columns);
  KernelJIT &run = compile(
      target, formatv("%a: {0}, %b: {0}, %y: {0}", type),
      formatv("linalg.add ins(%a, %b : {0}, {0}) outs(%y : {0})", type));
  Rows<float> aRows(a, kUntouched), bRows(b, kUntouched);
  Rows<float> y(kTokens, columns, kUntouched);
  run(aRows.first(), bRows.first(), y.first());
  y.expect(expected);
}

void runGatherRows(const TargetSpec &target, int64_t columns) {
  Random random(columns);
  Floats x = random.floats({kTokens, columns});
  Ints rows = random.ids(5, kTokens);
  std::string type = rowsType(columns);
  KernelJIT &run =
      compile(target, formatv("%x: {0}, %rows: memref<?xi32>, %y: {0}", type),
              formatv("ternary.gather_rows ins(%x, %rows : {0}, memref<?xi32>) "
                      "outs(%y : {0})",
                      type));
  Rows<float> xRows(x, kUntouched), y(5, columns, kUntouched);
  run(xRows.first(), makeMemRef(rows.data), y.first());
  y.expect(take(gatherRows(x, rows)));
}

//===----------------------------------------------------------------------===//
// Tables and the head
//===----------------------------------------------------------------------===//

std::string bf16Pairs(int64_t tileRows, int64_t unroll, int64_t tokens,
                      int64_t streams = 1) {
  return formatv(
      "<bf16_pairs, tile_rows = {0}, lanes = 16, unroll = {1}, tokens = "
      "{2}, prefetch = 0, streams = {3}>",
      tileRows, unroll, tokens, streams);
}

std::vector<uint8_t> packTable(const Floats &table, int64_t tileRows) {
  std::vector<uint8_t> packed(llvm::alignTo(table.shape[0], tileRows) *
                              llvm::divideCeil(table.shape[1], 2) * 4);
  packBF16Pairs(toBF16(table), table.shape[1], tileRows, packed);
  return packed;
}

void runEmbedding(const TargetSpec &target, int64_t columns, bool isPacked) {
  constexpr int64_t vocabulary = 150, tileRows = 64;
  Random random(columns);
  Floats table = random.bf16s({vocabulary, columns});
  Ints tokens = random.ids(kTokens, vocabulary);
  tokens.data[0] = vocabulary - 1;
  std::vector<uint16_t> plain = toBF16(table);
  std::vector<uint8_t> packed = packTable(table, tileRows);
  std::string tableType =
      isPacked ? formatv("memref<{0}xi8>", packed.size()).str()
               : formatv("memref<{0}x{1}xbf16>", vocabulary, columns).str();
  std::string layout = isPacked ? formatv("{{layout = #ternary.layout{0}}",
                                          bf16Pairs(tileRows, 1, 4))
                                      .str()
                                : "";
  KernelJIT &run = compile(
      target,
      formatv("%tokens: memref<?xi32>, %table: {0}, %y: {1}", tableType,
              rowsType(columns)),
      formatv("ternary.embedding ins(%tokens, %table : memref<?xi32>, {0}) "
              "outs(%y : {1}) {2}",
              tableType, rowsType(columns), layout));
  Rows<float> y(kTokens, columns, kUntouched);
  if (isPacked)
    run(makeMemRef(tokens.data), makeMemRef(packed), y.first());
  else
    run(makeMemRef(tokens.data), makeMemRef(plain, columns, columns),
        y.first());
  y.expect(take(embedding(tokens, table)));
}

struct Head {
  int64_t rows, columns, tileRows, unroll, tokens, streams = 1;
};

void runPackedLinear(const TargetSpec &target, Head head) {
  Random random(head.rows + head.columns);
  Floats weight = random.bf16s({head.rows, head.columns});
  Floats x = random.floats({kTokens, head.columns});
  std::vector<uint8_t> packed = packTable(weight, head.tileRows);
  std::string xType = rowsType(head.columns), yType = rowsType(head.rows);
  KernelJIT &run = compile(
      target,
      formatv("%x: {0}, %w: memref<{1}xi8>, %y: {2}", xType, packed.size(),
              yType),
      formatv(
          "ternary.packed_linear {3} ins(%x, %w : {0}, memref<{1}xi8>) "
          "outs(%y : {2})",
          xType, packed.size(), yType,
          bf16Pairs(head.tileRows, head.unroll, head.tokens, head.streams)));
  Floats expected = linear(x, weight, head.rows);
  Rows<float> xRows(x, kUntouched);
  for (int64_t n = 1; n <= kTokens; ++n) {
    Rows<float> y(kTokens, head.rows, kUntouched);
    run(xRows.first(n), makeMemRef(packed), y.first(n));
    y.expect(expected, n);
  }
}

void runLinear(const TargetSpec &target, int64_t rows, int64_t columns) {
  Random random(rows + columns);
  Floats weight = random.floats({rows, columns}),
         x = random.floats({kTokens, columns});
  std::string xType = rowsType(columns), yType = rowsType(rows);
  KernelJIT &run = compile(target,
                           formatv("%x: {0}, %w: memref<{1}x{2}xf32>, %y: {3}",
                                   xType, rows, columns, yType),
                           formatv("ternary.linear ins(%x, %w : {0}, "
                                   "memref<{1}x{2}xf32>) outs(%y : {3})",
                                   xType, rows, columns, yType));
  Rows<float> xRows(x, kUntouched), y(kTokens, rows, kUntouched);
  run(xRows.first(), makeMemRef(weight.data, columns, columns), y.first());
  y.expect(linear(x, weight, rows));
}

/// Some groups of rows: others keep what they hold. The same bits as all rows.
void runLinearRows(const TargetSpec &target, Head head, bool isPacked) {
  Random random(head.rows + head.columns);
  Floats weight = random.bf16s({head.rows, head.columns});
  Floats x = random.floats({kTokens, head.columns});
  std::vector<uint8_t> packed = packTable(weight, /*tileRows=*/16);
  std::string xType = rowsType(head.columns), yType = rowsType(head.rows),
              wType = isPacked ? formatv("memref<{0}xi8>", packed.size()).str()
                               : formatv("memref<{0}x{1}xf32>", head.rows,
                                         head.columns)
                                     .str();
  std::string op =
      isPacked ? "packed_linear " + bf16Pairs(16, head.unroll, head.tokens)
               : std::string("linear");
  KernelJIT &run =
      compile(target,
              formatv("%x: {0}, %w: {1}, %groups: memref<?xi32>, %y: {2}",
                      xType, wType, yType),
              formatv("ternary.{3} ins(%x, %w : {0}, {1}) groups(%groups : "
                      "memref<?xi32>) outs(%y : {2})",
                      xType, wType, yType, op));
  Rows<float> xRows(x, kUntouched);
  int32_t last = (head.rows - 1) / 16;
  for (std::vector<int32_t> list :
       {std::vector<int32_t>{}, {last}, {last / 2, 0}, {0, last, last / 2}}) {
    if (last < 2 && list.size() > 1)
      continue; // they would be the same
    Ints groups(int64_t(list.size()), list);
    for (int64_t n : {int64_t(1), kTokens}) {
      Rows<float> y(kTokens, head.rows, kUntouched);
      if (isPacked)
        run(xRows.first(n), makeMemRef(packed), makeMemRef(groups.data),
            y.first(n));
      else
        run(xRows.first(n), makeMemRef(weight.data, head.columns, head.columns),
            makeMemRef(groups.data), y.first(n));
      Floats untouched({kTokens, head.rows});
      llvm::fill(untouched.data, kUntouched);
      y.expect(take(linear(x, weight, groups, untouched)), n);
    }
  }
}

//===----------------------------------------------------------------------===//
// Rope and attention
//===----------------------------------------------------------------------===//

void runRope(const TargetSpec &target, int64_t heads, int64_t headDim) {
  constexpr int64_t context = 50;
  Random random(headDim);
  int64_t columns = heads * headDim;
  Floats x = random.floats({kTokens, columns}),
         table = random.floats({context, headDim}, 1);
  Ints positions = random.ids(kTokens, context);
  std::string type = rowsType(columns);
  KernelJIT &run = compile(
      target,
      formatv("%x: {0}, %positions: memref<?xi32>, %table: "
              "memref<{1}x{2}xf32>, %y: {0}",
              type, context, headDim),
      formatv("ternary.rope ins(%x, %positions, %table : {0}, memref<?xi32>, "
              "memref<{1}x{2}xf32>) outs(%y : {0})",
              type, context, headDim));
  Rows<float> xRows(x, kUntouched), y(kTokens, columns, kUntouched);
  run(xRows.first(), makeMemRef(positions.data),
      makeMemRef(table.data, headDim, headDim), y.first());
  y.expect(take(rope(x, positions, table)));
}

/// `scale` is that of scores: with the second one probabilities are 0, 1 and
/// all between, and a column of values is zero for most keys, so that it shows
/// the least of them.
struct Heads {
  int64_t kvHeads, groupSize, headDim, context;
  float scale = 0.125;
};
constexpr float kPeakedScale = 16;

/// Every position of two slots of three, the second one only in part, with the
/// update: first the prompts, one after the other, then the rest, in turns.
void runAttention(const TargetSpec &target, Heads heads,
                  ternary::KVElement element) {
  constexpr int64_t layers = 2, layer = 1, slots = 3;
  Random random(heads.headDim);
  int64_t h = heads.headDim, kvColumns = heads.kvHeads * h;
  int64_t columns = kvColumns * heads.groupSize;
  std::vector<int32_t> slotOf, positionOf;
  auto add = [&](int32_t slot, int32_t position) {
    slotOf.push_back(slot);
    positionOf.push_back(position);
  };
  for (int32_t position = 0; position < heads.context / 2; ++position)
    add(2, position);
  for (int32_t position = 0; position < heads.context / 3; ++position)
    add(0, position);
  for (int32_t position = heads.context / 2; position < heads.context;
       ++position) {
    add(2, position);
    if (position % 2)
      add(0, heads.context / 3 + (position - heads.context / 2) / 2);
  }
  int64_t n = slotOf.size();
  Floats k = random.floats({n, kvColumns}), v = random.floats({n, kvColumns});
  Floats q = random.floats({n, columns});
  if (heads.scale == kPeakedScale)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t d = 0; d < kvColumns; ++d)
        if (i % 4 != d % 4)
          v.row(i)[d] = 0;

  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto type = ternary::KVCacheType::get(&context, layers, heads.kvHeads,
                                        heads.context, h, element);
  KVCache expectedCache(type);
  Ints slotIds({n}, slotOf), positionIds({n}, positionOf);
  llvm::cantFail(kvUpdate(k, v, positionIds, slotIds, expectedCache, layer));
  Floats expected = take(
      attention(q, positionIds, slotIds, expectedCache, layer, heads.scale));

  // What an earlier sequence left there must not count.
  Floats stale = random.floats({slots * getKVSlotSizeInBytes(type) / 4}, 100);
  auto memrefType = getKVMemRefType(type);
  std::string cacheType, memory;
  llvm::raw_string_ostream(cacheType) << type;
  llvm::raw_string_ostream(memory) << memrefType;
  std::string kvType = rowsType(kvColumns), qType = rowsType(columns);
  KernelJIT &run = compile(
      target,
      formatv("%k: {0}, %v: {0}, %q: {1}, %positions: memref<?xi32>, "
              "%slots: memref<?xi32>, %memory: {2}, %y: {1}, %layer: index",
              kvType, qType, memory),
      formatv(
          "%cache = builtin.unrealized_conversion_cast %memory : {3} to {2}\n"
          "ternary.kv_update %k, %v, %positions, %slots into %cache layer "
          "%layer : "
          "{0}, {0}, memref<?xi32>, memref<?xi32>, {2}\n"
          "ternary.attention ins(%q, %positions, %slots, %cache layer %layer : "
          "{1}, memref<?xi32>, memref<?xi32>, {2}) outs(%y : {1}) scale = "
          "{4:f3}",
          kvType, qType, cacheType, memory, heads.scale));
  Rows<float> kRows(k, kUntouched), vRows(v, kUntouched), qRows(q, kUntouched);
  Rows<float> y(n, columns, kUntouched);
  auto runOn = [&]<typename T>(T *cache) {
    std::array<int64_t, 2> sizes = {slots};
    llvm::copy(memrefType.getShape().drop_front(), sizes.begin() + 1);
    run(kRows.first(), vRows.first(), qRows.first(), makeMemRef(positionOf),
        makeMemRef(slotOf), makeContiguous(cache, sizes), y.first(), layer);
  };
  void *memoryOfCache = stale.data.data();
  switch (memrefType.getElementTypeBitWidth()) {
  case 8:
    runOn(static_cast<uint8_t *>(memoryOfCache));
    break;
  case 16:
    runOn(static_cast<uint16_t *>(memoryOfCache));
    break;
  default:
    runOn(static_cast<float *>(memoryOfCache));
  }
  y.expect(expected);
}

} // namespace

void tercet::conformance::addFloatCases(std::vector<Case> &cases) {
  auto add = [&](std::string name, bool isFast,
                 std::function<void(const TargetSpec &)> run) {
    cases.push_back({std::move(name), isFast, std::move(run)});
  };
  using Target = const TargetSpec &;
  for (int64_t kind = 0; kind < kTripleKinds; ++kind)
    add("fma_" + std::to_string(kind), true,
        [=](Target t) { runFMA(t, kind); });
  for (int64_t k : {1, 15, 16, 17, 100, 2560, 6912}) {
    std::string suffix = "_" + std::to_string(k);
    bool isFast = k == 17;
    add("rms_norm" + suffix, isFast, [=](Target t) { runRMSNorm(t, k); });
    add("quantize_activations" + suffix, isFast,
        [=](Target t) { runQuantizeActivations(t, k); });
    for (int64_t group : {16, 32, 64, 128, 256})
      add(formatv("quantize_activations_group{0}_{1}", group, k),
          isFast && group == 16,
          [=](Target t) { runQuantizeActivations(t, k, group); });
    add("gated_relu2" + suffix, isFast, [=](Target t) {
      runGatedActivation(t, k, ternary::Activation::ReLU2);
    });
    add("gated_silu" + suffix, isFast,
        [=](Target t) { runGatedActivation(t, k, ternary::Activation::SiLU); });
    add("fused_rows" + suffix, isFast, [=](Target t) { runFusedRows(t, k); });
    add("embedding" + suffix, isFast,
        [=](Target t) { runEmbedding(t, k, false); });
    add("embedding_packed" + suffix, isFast,
        [=](Target t) { runEmbedding(t, k, true); });
    if (k > 100)
      continue; // nothing but copies and single additions
    add("add" + suffix, isFast, [=](Target t) { runAdd(t, k); });
    add("gather_rows" + suffix, isFast, [=](Target t) { runGatherRows(t, k); });
  }
  for (Head head :
       {Head{17, 50, 16, 1, 1}, Head{130, 37, 64, 2, 4}, Head{1, 1, 64, 2, 4},
        Head{200, 2560, 64, 2, 4}, Head{256, 64, 128, 1, 2},
        Head{400, 37, 64, 2, 4, 4}, Head{90, 51, 16, 1, 2, 3}})
    add("packed_linear_" + std::to_string(head.rows) + "x" +
            std::to_string(head.columns) + "_streams" +
            std::to_string(head.streams),
        head.rows == 130 || head.rows == 90,
        [=](Target t) { runPackedLinear(t, head); });
  for (bool isPacked : {true, false})
    for (Head head : {Head{1, 37, 16, 2, 4}, Head{80, 64, 16, 1, 4},
                      Head{77, 37, 16, 2, 4}, Head{130, 2560, 16, 2, 4}})
      add(formatv("linear_rows_{0}x{1}_{2}", head.rows, head.columns,
                  isPacked ? "packed" : "plain"),
          head.rows == 77, [=](Target t) { runLinearRows(t, head, isPacked); });
  for (int64_t rows : {1, 16, 17, 48})
    add("linear_" + std::to_string(rows), rows == 17,
        [=](Target t) { runLinear(t, rows, 50); });
  for (auto [heads, dim] :
       {std::pair(2, 128), std::pair(3, 24), std::pair(1, 2)})
    add("rope_" + std::to_string(dim), dim == 24,
        [heads = heads, dim = dim](Target t) { runRope(t, heads, dim); });
  for (Heads heads :
       {Heads{2, 4, 128, 196}, Heads{3, 1, 64, 150}, Heads{2, 3, 80, 37},
        Heads{1, 5, 24, 33}, Heads{1, 2, 256, 70}, Heads{1, 8, 64, 130},
        Heads{1, 3, 22, 67}, Heads{2, 4, 128, 90, kPeakedScale},
        Heads{1, 5, 24, 33, kPeakedScale}})
    for (ternary::KVElement element :
         {ternary::KVElement::F32, ternary::KVElement::BF16,
          ternary::KVElement::Int8}) {
      add(formatv("attention_{0}x{1}x{2}_{3}{4}", heads.kvHeads,
                  heads.groupSize, heads.headDim,
                  ternary::stringifyKVElement(element),
                  heads.scale == kPeakedScale ? "_peaked" : ""),
          heads.headDim == 24,
          [=](Target t) { runAttention(t, heads, element); });
      cases.back().hasDots = element == ternary::KVElement::Int8;
    }
}
