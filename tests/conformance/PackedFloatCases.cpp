// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Heads and tables as files have them: f32, f16, and floats in blocks. The
// result is that of the floats which the file's encoding stands for.

#include "tests/conformance/CaseSupport.h"

#include "compiler/Support/PackedLayout.h"
#include "dialect/Ternary/SourceEncoding.h"

using namespace tercet;
using namespace tercet::conformance;
using namespace tercet::reference;
using llvm::formatv;
using ternary::Encoding;

namespace {

constexpr int64_t kTokens = 7;

/// Any finite f16 below 32, subnormal ones and zeros too.
uint16_t randomF16(Random &random) {
  int64_t sign = random.integer(0, 1) << 15;
  return uint16_t(sign | random.integer(0, 20) * random.integer(0, 0x3ff));
}

/// Rows of an encoding, and what they are.
struct Matrix {
  Matrix(Encoding encoding, int64_t rows, int64_t columns)
      : encoding(encoding),
        bytes(*ternary::getSourceSize(encoding, {rows, columns})),
        floats({rows, columns}) {
    Random random(unsigned(rows + columns));
    ternary::EncodingInfo info = ternary::getEncodingInfo(encoding);
    for (uint8_t &byte : bytes)
      byte = uint8_t(random.integer(0, 255));
    if (encoding == Encoding::F32)
      memcpy(bytes.data(), random.floats({rows, columns}).data.data(),
             bytes.size());
    for (size_t i = 0; i < bytes.size(); i += info.blockBytes)
      for (int64_t at : getHalves(encoding)) {
        uint16_t half = randomF16(random);
        memcpy(&bytes[i + at], &half, sizeof(half));
      }
    decodeFloats(encoding, bytes.data(), 0, floats.data);
  }

  /// Where a block has f16s.
  static llvm::SmallVector<int64_t> getHalves(Encoding encoding) {
    switch (encoding) {
    case Encoding::F32:
      return {};
    case Encoding::Q4_1:
    case Encoding::Q5_1:
    case Encoding::Q4_K:
    case Encoding::Q5_K:
      return {0, 2};
    case Encoding::Q6_K:
      return {208};
    default:
      return {0};
    }
  }

  std::string getLayoutText(int64_t tileRows, int64_t unroll, int64_t tokens,
                            int64_t streams) const {
    return formatv("<{0}, tile_rows = {1}, lanes = 16, unroll = {2}, tokens = "
                   "{3}, prefetch = 1024, streams = {4}>",
                   ternary::stringifyEncoding(encoding), tileRows, unroll,
                   tokens, streams);
  }
  std::vector<uint8_t> pack(int64_t tileRows) const {
    mlir::MLIRContext context;
    context.loadDialect<ternary::TernaryDialect>();
    auto packing =
        *ternary::symbolizePacking(ternary::stringifyEncoding(encoding));
    auto layout = ternary::LayoutAttr::get(&context, packing, tileRows, {});
    std::vector<uint8_t> packed(
        layout.getPackedBytes(floats.shape[0], floats.shape[1]), 0xee);
    packFloats(layout, bytes, floats.shape[1], packed);
    return packed;
  }

  Encoding encoding;
  std::vector<uint8_t> bytes;
  Floats floats;
};

void runEmbedding(const TargetSpec &target, Encoding encoding, int64_t columns,
                  int64_t tileRows) {
  constexpr int64_t vocabulary = 70;
  Matrix table(encoding, vocabulary, columns);
  Random random(5);
  Ints tokens = random.ids(kTokens, vocabulary);
  tokens.data[0] = vocabulary - 1;
  std::vector<uint8_t> packed = table.pack(tileRows);
  std::string tableType = formatv("memref<{0}xi8>", packed.size());
  KernelJIT &run = compile(
      target,
      formatv("%tokens: memref<?xi32>, %table: {0}, %y: {1}", tableType,
              rowsType(columns)),
      formatv("ternary.embedding ins(%tokens, %table : memref<?xi32>, {0}) "
              "outs(%y : {1}) {{layout = #ternary.layout{2}}",
              tableType, rowsType(columns),
              table.getLayoutText(tileRows, 1, 4, 1)));
  Rows<float> y(kTokens, columns, kUntouched);
  run(makeMemRef(tokens.data), makeMemRef(packed), y.first());
  y.expect(llvm::cantFail(embedding(tokens, table.floats)));
}

struct Head {
  int64_t rows, columns, tileRows, unroll, tokens, streams = 1;
};

void runHead(const TargetSpec &target, Encoding encoding, Head head) {
  Matrix weight(encoding, head.rows, head.columns);
  Random random(3);
  Floats x = random.floats({kTokens, head.columns});
  std::vector<uint8_t> packed = weight.pack(head.tileRows);
  std::string xType = rowsType(head.columns), yType = rowsType(head.rows),
              wType = formatv("memref<{0}xi8>", packed.size());
  KernelJIT &run = compile(
      target, formatv("%x: {0}, %w: {1}, %y: {2}", xType, wType, yType),
      formatv("ternary.packed_linear {3} ins(%x, %w : {0}, {1}) outs(%y : {2})",
              xType, wType, yType,
              weight.getLayoutText(head.tileRows, head.unroll, head.tokens,
                                   head.streams)));
  Floats expected = linear(x, weight.floats, head.rows);
  Rows<float> xRows(x, kUntouched);
  for (int64_t n = 1; n <= kTokens; ++n) {
    Rows<float> y(kTokens, head.rows, kUntouched);
    run(xRows.first(n), makeMemRef(packed), y.first(n));
    y.expect(expected, n);
    if (testing::Test::HasFatalFailure())
      return;
  }
}

/// Two groups of 16 rows; others keep what they hold.
void runHeadRows(const TargetSpec &target, Encoding encoding, int64_t columns) {
  constexpr int64_t rows = 50;
  Matrix weight(encoding, rows, columns);
  Random random(4);
  Floats x = random.floats({kTokens, columns});
  std::vector<uint8_t> packed = weight.pack(/*tileRows=*/16);
  std::string xType = rowsType(columns), yType = rowsType(rows),
              wType = formatv("memref<{0}xi8>", packed.size());
  KernelJIT &run =
      compile(target,
              formatv("%x: {0}, %w: {1}, %groups: memref<?xi32>, %y: {2}",
                      xType, wType, yType),
              formatv("ternary.packed_linear {3} ins(%x, %w : {0}, {1}) "
                      "groups(%groups : memref<?xi32>) outs(%y : {2})",
                      xType, wType, yType, weight.getLayoutText(16, 1, 4, 1)));
  Ints groups(2, {3, 1});
  Floats untouched({kTokens, rows});
  llvm::fill(untouched.data, kUntouched);
  Rows<float> xRows(x, kUntouched), y(kTokens, rows, kUntouched);
  run(xRows.first(), makeMemRef(packed), makeMemRef(groups.data), y.first());
  y.expect(llvm::cantFail(linear(x, weight.floats, groups, untouched)));
}

} // namespace

void tercet::conformance::addPackedFloatCases(std::vector<Case> &cases) {
  using Target = const TargetSpec &;
  for (Encoding encoding :
       {Encoding::F32, Encoding::F16, Encoding::Q4_0, Encoding::Q4_1,
        Encoding::Q5_0, Encoding::Q5_1, Encoding::Q8_0, Encoding::Q4_K,
        Encoding::Q5_K, Encoding::Q6_K}) {
    int64_t block = ternary::getEncodingInfo(encoding).blockSize;
    std::string prefix =
        ("packed_" + ternary::stringifyEncoding(encoding) + "_").str();
    auto add = [&](std::string name, bool isFast,
                   std::function<void(Target)> run) {
      bool isCommon = encoding == Encoding::F16 || encoding == Encoding::Q6_K ||
                      encoding == Encoding::Q4_1;
      cases.push_back({prefix + name, isFast && isCommon, std::move(run)});
    };
    // Whole blocks; of floats by themselves any number.
    auto align = [=](int64_t columns) {
      return int64_t(llvm::alignTo(columns, block));
    };
    add("embedding", true, [=](Target t) {
      runEmbedding(t, encoding, align(300), /*tileRows=*/64);
    });
    add("embedding_tile16", false, [=](Target t) {
      runEmbedding(t, encoding, align(35), /*tileRows=*/16);
    });
    add("rows", false, [=](Target t) { runHeadRows(t, encoding, align(90)); });
    for (Head head :
         {Head{70, align(257), 64, 1, 4}, Head{33, align(35), 16, 2, 1},
          Head{1, align(1), 64, 1, 2}, Head{400, align(100), 64, 1, 4, 4},
          Head{100, align(2560), 32, 2, 2, 2}})
      add(formatv("{0}x{1}_streams{2}", head.rows, head.columns, head.streams),
          head.rows == 70, [=](Target t) { runHead(t, encoding, head); });
  }
}
