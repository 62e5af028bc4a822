// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One-thread times of the float kernels at the shapes of BitNet b1.58 2B4T. CPU
// time of this thread, so that a busy machine distorts caches and memory only;
// `min` and median of interleaved rounds.
//
//   KernelBench [--target=TARGET] [GROUP]

#include "compiler/Support/KVCacheLayout.h"
#include "compiler/Support/PackedLayout.h"
#include "compiler/Target/Backend.h"
#include "dialect/Ternary/Ternary.h"
#include "tests/bench/IntrinsicKernels.h"
#include "tests/conversion/KernelJIT.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <time.h>

using namespace tercet;
using llvm::formatv;

namespace {

double now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

/// Zeroed memory on huge pages, kept until the end.
template <typename T> T *allocate(int64_t count) {
  size_t size = (count * sizeof(T) + (2u << 20)) & ~size_t((2u << 20) - 1);
  void *memory = std::aligned_alloc(2 << 20, size);
  madvise(memory, size, MADV_HUGEPAGE);
  std::memset(memory, 0, size);
  return static_cast<T *>(memory);
}

template <typename T> MemRef<T, 1> vectorOf(int64_t count) {
  T *data = allocate<T>(count);
  return {data, data, 0, {count}, {1}};
}

MemRef<float, 2> matrixOf(int64_t rows, int64_t columns) {
  float *data = allocate<float>(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i)
    data[i] = float(i * 2654435761u % 1000) / 500 - 1;
  return {data, data, 0, {rows, columns}, {columns, 1}};
}

/// What memory can deliver: four streams, as loads that nothing computes on.
uint64_t readAll(const uint8_t *data, int64_t size) {
  typedef uint64_t Vector __attribute__((vector_size(64), aligned(64)));
  const Vector *from = reinterpret_cast<const Vector *>(data);
  int64_t quarter = size / 64 / 4;
  Vector sums[4] = {};
  for (int64_t i = 0; i < quarter; ++i)
    for (int s = 0; s < 4; ++s)
      sums[s] |= from[s * quarter + i];
  Vector sum = sums[0] | sums[1] | sums[2] | sums[3];
  return sum[0];
}

struct Case {
  std::string name;
  double work; // per call
  const char *unit;
  std::function<void()> run;
  std::vector<double> times = {};
};

std::string kernel(std::string arguments, std::string body) {
  return "func.func @kernel(" + arguments + ") {\n" + body + "\n  return\n}\n";
}

std::string rowsType(int64_t columns) {
  return formatv("memref<?x{0}xf32, strided<[{0}, 1]>>", columns);
}

/// With several layers, each call takes the next: keys and values then come
/// from memory, as they do in a model.
Case makeAttention(ternary::KVElement element, int64_t count, int64_t layers,
                   int64_t numTokens = 1) {
  constexpr int64_t kvHeads = 5, headDim = 128, group = 4;
  int64_t columns = kvHeads * group * headDim;
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto cacheType = ternary::KVCacheType::get(&context, layers, kvHeads, count,
                                             headDim, element);
  std::string cache, memory;
  llvm::raw_string_ostream(cache) << cacheType;
  llvm::raw_string_ostream(memory) << getKVMemRefType(cacheType);
  std::string type = rowsType(columns);
  auto run = std::make_shared<KernelJIT>(kernel(
      formatv("%q: {0}, %positions: memref<?xi32>, %slots: memref<?xi32>, "
              "%memory: {1}, %y: {0}, %layer: index",
              type, memory)
          .str(),
      formatv(
          "%cache = builtin.unrealized_conversion_cast %memory : {1} to {2}\n"
          "ternary.attention ins(%q, %positions, %slots, %cache layer "
          "%layer : {0}, memref<?xi32>, memref<?xi32>, {2}) outs(%y : {0}) "
          "scale = 0.0884",
          type, memory, cache)
          .str()));
  auto q = matrixOf(numTokens, columns), y = matrixOf(numTokens, columns);
  auto positions = vectorOf<int32_t>(numTokens);
  for (int64_t n = 0; n < numTokens; ++n)
    positions.aligned[n] = count - numTokens + n;
  auto slots = vectorOf<int32_t>(numTokens);
  // Its kernel knows the strides. The bytes are a small number in f32, also as
  // a scale, and in bf16.
  int64_t size = getKVSlotSizeInBytes(cacheType);
  uint8_t *data = allocate<uint8_t>(size);
  std::memset(data, 0x30, size);
  MemRef<uint8_t, 5> kv = {data, data, 0, {}, {}};
  double pairs = 0; // (query head, key)
  for (int64_t n = 0; n < numTokens; ++n)
    pairs += double(positions.aligned[n] + 1) * kvHeads * group;
  auto layer = std::make_shared<int64_t>(0);
  bool one = numTokens == 1;
  return {formatv("attention {3} T={0} N={1} {2}", count, numTokens,
                  layers == 1 ? "cached" : "from memory",
                  ternary::stringifyKVElement(element))
              .str(),
          one ? double(size) / layers * 1e-9 : pairs * headDim * 2 * 1e-9,
          one ? "GB/s" : "GMAC/s",
          [=] { (*run)(q, positions, slots, kv, y, (*layer)++ % layers); }};
}

Case makeHead(int64_t rows, int64_t tileRows, int64_t unroll, int64_t tokens,
              int64_t prefetch, int64_t numTokens) {
  constexpr int64_t columns = 2560;
  int64_t size = rows * columns * 2;
  std::string x = rowsType(columns), y = rowsType(rows);
  auto run = std::make_shared<KernelJIT>(kernel(
      formatv("%x: {0}, %w: memref<{1}xi8>, %y: {2}", x, size, y).str(),
      formatv("ternary.packed_linear <bf16_pairs, tile_rows = {3}, lanes = 16, "
              "unroll = {4}, tokens = {5}, prefetch = {6}> ins(%x, %w : {0}, "
              "memref<{1}xi8>) outs(%y : {2})",
              x, size, y, tileRows, unroll, tokens, prefetch)
          .str()));
  static auto weights = vectorOf<uint8_t>(size);
  auto in = matrixOf(numTokens, columns), out = matrixOf(numTokens, rows);
  auto w = weights;
  bool one = numTokens == 1;
  return {formatv("packed_linear rows={0} tile={1} unroll={2} tokens={3} "
                  "prefetch={4} N={5}",
                  rows, tileRows, unroll, tokens, prefetch, numTokens)
              .str(),
          one ? size * 1e-9 : double(rows) * columns * numTokens * 1e-9,
          one ? "GB/s" : "GMAC/s", [=] { (*run)(in, w, out); }};
}

/// `layout` without its brackets.
Case makeCodeHead(int64_t rows, std::string layout, int64_t numTokens) {
  constexpr int64_t columns = 2560;
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto attribute = llvm::cast<ternary::CodeLayoutAttr>(
      mlir::parseAttribute("#ternary.code_layout<" + layout + ">", &context));
  int64_t size = attribute.getSize(rows, columns);
  int64_t groups =
      columns / ternary::getCodeFormatInfo(attribute.getFormat()).group;
  std::string types =
      formatv("memref<?x{0}xi8>, memref<?x{0}xi8>, memref<?xf32>, "
              "memref<?x{1}xi32>, memref<{2}xi8>",
              columns, groups, size);
  std::string y = rowsType(rows);
  auto run = std::make_shared<KernelJIT>(kernel(
      formatv("%high: memref<?x{0}xi8>, %low: memref<?x{0}xi8>, %scale: "
              "memref<?xf32>, %sums: memref<?x{1}xi32>, %w: memref<{2}xi8>, "
              "%y: {3}",
              columns, groups, size, y)
          .str(),
      formatv("ternary.packed_quantized_linear <{0}> ins(%high, %low, %scale, "
              "%sums, %w : {1}) outs(%y : {2})",
              layout, types, y)
          .str()));
  int8_t *digits = allocate<int8_t>(numTokens * columns);
  MemRef<int8_t, 2> q = {digits, digits, 0, {numTokens, columns}, {columns, 1}};
  int32_t *ints = allocate<int32_t>(numTokens * groups);
  MemRef<int32_t, 2> sums = {ints, ints, 0, {numTokens, groups}, {groups, 1}};
  auto scale = vectorOf<float>(numTokens);
  static auto weights = vectorOf<uint8_t>(rows * columns * 2);
  auto w = weights;
  w.sizes[0] = size;
  auto out = matrixOf(numTokens, rows);
  bool one = numTokens == 1;
  return {formatv("head {0} N={1}", layout, numTokens).str(),
          one ? size * 1e-9 : double(rows) * columns * numTokens * 1e-9,
          one ? "GB/s" : "GMAC/s", [=] { (*run)(q, q, scale, sums, w, out); }};
}

/// A layout as the syntax of an op has it.
std::string getText(ternary::LayoutAttr layout) {
  std::string text;
  llvm::raw_string_ostream(text) << layout;
  return text.erase(0, strlen("#ternary.layout"));
}

/// packed_matmul of any number of tokens.
std::shared_ptr<KernelJIT> compileMatmul(ternary::LayoutAttr layout,
                                         int64_t rows, int64_t columns) {
  int64_t size = layout.getPackedBytes(rows, columns);
  std::string types =
      formatv("memref<?x{0}xi8>, memref<?xf32>, memref<?xi32>, memref<{1}xi8>, "
              "memref<{2}xf32>",
              columns, size, rows / 16);
  std::string y = rowsType(rows);
  return std::make_shared<KernelJIT>(kernel(
      formatv("%q: memref<?x{0}xi8>, %scale: memref<?xf32>, %sum: "
              "memref<?xi32>, %w: memref<{1}xi8>, %scales: memref<{2}xf32>, "
              "%y: {3}",
              columns, size, rows / 16, y)
          .str(),
      formatv("ternary.packed_matmul {0} ins(%q, %scale, "
              "%sum, %w, %scales : {1}) outs(%y : {2})",
              getText(layout), types, y)
          .str()));
}

Case makeMatmul(int64_t rows, int64_t columns, int64_t numTokens,
                ternary::Packing packing, const ternary::Schedule &schedule) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto layout = ternary::LayoutAttr::getTrits(&context, packing, schedule);
  auto run = compileMatmul(layout, rows, columns);
  int64_t size = layout.getPackedBytes(rows, columns);
  int8_t *codes = allocate<int8_t>(numTokens * columns);
  MemRef<int8_t, 2> q = {codes, codes, 0, {numTokens, columns}, {columns, 1}};
  auto scale = vectorOf<float>(numTokens), scales = vectorOf<float>(rows / 16);
  auto sum = vectorOf<int32_t>(numTokens);
  auto weights = vectorOf<uint8_t>(size);
  auto out = matrixOf(numTokens, rows);
  bool one = numTokens == 1;
  return {formatv("packed_matmul {0}x{1} N={2} {3}", rows, columns, numTokens,
                  getText(layout))
              .str(),
          one ? size * 1e-9 : double(rows) * columns * numTokens * 1e-9,
          one ? "GB/s" : "GMAC/s",
          [=] { (*run)(q, scale, sum, weights, scales, out); }};
}

/// A kernel by hand and the generated one on the same data. They must agree.
std::pair<Case, Case> makeByHand(std::string name, int64_t rows,
                                 int64_t columns, int64_t numTokens,
                                 ternary::Packing packing,
                                 const ternary::Schedule &schedule,
                                 void (*byHand)(const TernaryMatmul &)) {
  mlir::MLIRContext context;
  context.loadDialect<ternary::TernaryDialect>();
  auto layout = ternary::LayoutAttr::getTrits(&context, packing, schedule);
  std::vector<int8_t> trits(rows * columns);
  for (size_t i = 0; i < trits.size(); ++i)
    trits[i] = int8_t((i * 2654435761u >> 7) % 3) - 1;
  auto weights = vectorOf<uint8_t>(layout.getPackedBytes(rows, columns));
  packTrits(layout, trits, columns,
            {weights.aligned, size_t(weights.sizes[0])});

  auto scale = vectorOf<float>(numTokens), scales = vectorOf<float>(rows / 16);
  auto sum = vectorOf<int32_t>(numTokens);
  int8_t *codes = allocate<int8_t>(numTokens * columns);
  for (int64_t n = 0; n < numTokens; ++n) {
    scale.aligned[n] = float(n + 3);
    for (int64_t k = 0; k < columns; ++k)
      sum.aligned[n] += codes[n * columns + k] =
          int8_t((n * columns + k) * 2654435761u >> 9);
  }
  for (int64_t group = 0; group < rows / 16; ++group)
    scales.aligned[group] = float(group % 7 + 1) / 8;
  MemRef<int8_t, 2> q = {codes, codes, 0, {numTokens, columns}, {columns, 1}};
  auto y = matrixOf(numTokens, rows), z = matrixOf(numTokens, rows);

  auto generated = compileMatmul(layout, rows, columns);
  auto runGenerated = [=] { (*generated)(q, scale, sum, weights, scales, y); };
  auto runByHand = [=] {
    byHand({rows, columns, numTokens, codes, scale.aligned, sum.aligned,
            weights.aligned, scales.aligned, z.aligned});
  };
  runGenerated();
  runByHand();
  if (memcmp(y.aligned, z.aligned, numTokens * rows * sizeof(float)) != 0) {
    llvm::errs() << name << ": the kernel by hand computes something else\n";
    exit(1);
  }
  double work = double(rows) * columns * numTokens * 1e-9;
  name += formatv(" {0}x{1} N={2}", rows, columns, numTokens);
  return {Case{name + " generated", work, "GMAC/s", runGenerated},
          Case{name + " intrinsics", work, "GMAC/s", runByHand}};
}

Case makeRead(int64_t size) {
  uint8_t *data = allocate<uint8_t>(size);
  return {formatv("read {0} MB", size >> 20).str(), size * 1e-9, "GB/s", [=] {
            [[maybe_unused]] static volatile uint64_t sink;
            sink = readAll(data, size);
          }};
}

/// Independent fmas on registers.
Case makeFMAPeak() {
  constexpr int64_t kChains = 16, kRounds = 4096;
  typedef float Vector __attribute__((vector_size(64), aligned(64)));
  return {"fma peak", kChains * kRounds * 16 * 1e-9, "GMAC/s", [] {
            [[maybe_unused]] static volatile float sink;
            Vector sums[kChains] = {}, factor = {}, term = {};
            for (int64_t i = 0; i < kRounds; ++i)
              for (Vector &sum : sums) {
                sum = sum * factor + term;
                asm("" : "+v"(sum));
              }
            for (Vector &sum : sums)
              sink = sum[0];
          }};
}

/// An op on rows of `columns` floats: `body` uses %x, %z and %y of type {0}.
Case makeRows(std::string name, int64_t columns, std::string body) {
  std::string type = rowsType(columns);
  auto run = std::make_shared<KernelJIT>(
      kernel(formatv("%x: {0}, %z: {0}, %y: {0}, %w: memref<{1}xf32>, "
                     "%q: memref<?x{1}xi8>, %scale: memref<?xf32>, "
                     "%sum: memref<?xi32>",
                     type, columns)
                 .str(),
             formatv(body.c_str(), type, columns).str()));
  auto x = matrixOf(1, columns), z = matrixOf(1, columns),
       y = matrixOf(1, columns);
  auto w = vectorOf<float>(columns), scale = vectorOf<float>(1);
  auto sum = vectorOf<int32_t>(1);
  int8_t *codes = allocate<int8_t>(columns);
  MemRef<int8_t, 2> q = {codes, codes, 0, {1, columns}, {columns, 1}};
  return {name + " K=" + std::to_string(columns), columns * 1e-9, "Gelement/s",
          [=] { (*run)(x, z, y, w, q, scale, sum); }};
}

/// Seconds of one call: as many calls as take a few hundred microseconds.
double measure(const Case &c, int64_t &calls) {
  // What the case before left in the caches is not this one's fault.
  for (int64_t i = 0; i < calls; ++i)
    c.run();
  double begin = now();
  for (int64_t i = 0; i < calls; ++i)
    c.run();
  double elapsed = now() - begin;
  double each = elapsed / calls;
  calls = std::max<int64_t>(1, 300e-6 / each);
  return each;
}

} // namespace

int main(int argc, char **argv) {
  llvm::StringRef targetText = "native", filter;
  for (llvm::StringRef argument : llvm::ArrayRef(argv, argc).drop_front())
    if (argument.consume_front("--target="))
      targetText = argument;
    else
      filter = argument;
  TargetSpec target = llvm::cantFail(parseTarget(targetText));
  setenv("TERCET_TEST_TARGET", target.text.c_str(), /*overwrite=*/1);
  std::vector<std::pair<std::string, std::function<Case()>>> makers;
  using ternary::KVElement;
  for (KVElement element : {KVElement::F32, KVElement::BF16, KVElement::Int8}) {
    for (int64_t count : {256, 1024, 4096, 8192, 32768})
      makers.emplace_back("attention", [=] {
        return makeAttention(element, count,
                             std::max<int64_t>(1, (64 << 20) / (count * 1280)));
      });
    makers.emplace_back("cached",
                        [=] { return makeAttention(element, 256, 1); });
    for (int64_t count : {512, 4096})
      makers.emplace_back(
          "prefill", [=] { return makeAttention(element, count, 1, 512); });
  }
  makers.emplace_back("attention", [] { return makeRead(64 << 20); });
  makers.emplace_back("prefill", [] { return makeFMAPeak(); });
  constexpr int64_t rows = 32768; // 168 MB: more than any cache
  makers.emplace_back("head", [] { return makeRead(rows * 2560 * 2); });
  for (int64_t tileRows : {64, 128})
    for (int64_t unroll : {1, 2, 4})
      for (int64_t prefetch : {0, 4096})
        makers.emplace_back("head", [=] {
          return makeHead(rows, tileRows, unroll, 4, prefetch, 1);
        });
  makers.emplace_back("codes", [] { return makeRead(rows * 2560); });
  for (std::string format : {"i8", "q6", "q4"})
    for (int64_t prefetch : {0, 4096})
      makers.emplace_back("codes", [=] {
        return makeCodeHead(rows,
                            formatv("{0}, tile_rows = 64, lanes = 16, parts = "
                                    "1, tokens = 2, prefetch = {1}",
                                    format, prefetch),
                            1);
      });
  for (int64_t tokens : {2, 4})
    for (int64_t tileRows : {64, 128})
      makers.emplace_back(
          "gemm", [=] { return makeHead(4096, tileRows, 1, tokens, 0, 32); });
  makers.emplace_back("gemv", [] { return makeRead(128 << 20); });
  for (auto packing : {ternary::Packing::I2, ternary::Packing::T5})
    for (int64_t unroll : {1, 2, 4})
      for (int64_t prefetch : {0, 1024, 4096, 8192})
        makers.emplace_back("gemv", [=] {
          return makeMatmul(128 << 10, 4096, 1, packing,
                            {.unroll = unroll,
                             .prefetch = prefetch,
                             .inPlace = true,
                             .planeMajor = packing == ternary::Packing::T5});
        });
  for (int64_t numTokens : {1, 12, 512}) {
    makers.emplace_back("matmul", [=] {
      return makeMatmul(2560, 2560, numTokens, ternary::Packing::I2,
                        {.unroll = 4, .tokens = 6, .inPlace = true});
    });
    for (int64_t tokens : {2, 3, 4})
      makers.emplace_back("matmul", [=] {
        return makeMatmul(2560, 2560, numTokens, ternary::Packing::T5,
                          {.unroll = 2,
                           .tokens = tokens,
                           .inPlace = true,
                           .planeMajor = true});
      });
  }
  // The backend's schedule and its neighbours: from memory, from a cache, GEMM.
  for (auto packing : {ternary::Packing::I2, ternary::Packing::T5}) {
    ternary::Schedule selected =
        getBackend(target).getSchedule(packing, {2560, 2560}, target);
    std::vector<ternary::Schedule> schedules = {selected};
    auto add = [&](auto change) {
      schedules.push_back(selected);
      change(schedules.back());
    };
    for (int64_t chain : {1, 16, 32, 64})
      if (chain == 1 || !selected.inPlace)
        add([=](auto &s) { s.chain = chain; });
    for (int64_t unroll : {1, 2, 4})
      add([=](auto &s) { s.unroll = unroll; });
    // As narrower registers would.
    for (int64_t chain : {int64_t(1), selected.chain})
      add([=](auto &s) {
        s.lanes = selected.lanes / 2, s.chain = chain;
        s.unroll = 1, s.tokens = 2;
      });
    makers.emplace_back("schedule", [] { return makeRead(128 << 20); });
    for (const auto &schedule : schedules)
      for (auto [rows, columns] : {std::pair(128 << 10, 4096), {2560, 2560}})
        makers.emplace_back("schedule", [=] {
          return makeMatmul(rows, columns, 1, packing, schedule);
        });
    for (int64_t tokens : {1, 2, 3, 4, 6, 8})
      for (bool planeMajor : {false, true})
        add([=](auto &s) { s.tokens = tokens, s.planeMajor = planeMajor; });
    for (const auto &schedule : schedules)
      makers.emplace_back("schedule-gemm", [=] {
        return makeMatmul(2560, 2560, 24, packing, schedule);
      });
  }
  makers.emplace_back("rows", [] {
    return makeRows("rms_norm", 2560,
                    "ternary.rms_norm ins(%x, %w : {0}, memref<{1}xf32>) "
                    "outs(%y : {0}) epsilon = 1.0e-05");
  });
  makers.emplace_back("rows", [] {
    return makeRows("quantize", 2560,
                    "ternary.quantize_activations ins(%x : {0}) outs(%q, "
                    "%scale, %sum : memref<?x{1}xi8>, memref<?xf32>, "
                    "memref<?xi32>)");
  });
  for (std::string activation : {"relu2", "silu"})
    makers.emplace_back("rows", [=] {
      return makeRows(activation, 6912,
                      "ternary.gated_activation " + activation +
                          " ins(%x, %z : {0}, {0}) outs(%y : {0})");
    });
  makers.emplace_back("rows", [] {
    return makeRows("add", 2560,
                    "linalg.add ins(%x, %z : {0}, {0}) outs(%y : {0})");
  });

  std::vector<Case> cases;
  for (auto &[group, make] : makers)
    if (llvm::StringRef(group).contains(filter))
      cases.push_back(make());
  if (llvm::StringRef("intrinsics").contains(filter) &&
      __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512vbmi")) {
    ternary::Schedule i2 = {.lanes = 16,
                            .unroll = 4,
                            .tokens = 6,
                            .inPlace = true};
    ternary::Schedule t5 = {.lanes = 16,
                            .unroll = 2,
                            .tokens = 3,
                            .inPlace = true,
                            .planeMajor = true};
    // In the second-level cache, and from memory.
    for (int64_t rows : {2560, 128 << 10}) {
      auto add = [&](std::pair<Case, Case> pair) {
        cases.push_back(pair.first);
        cases.push_back(pair.second);
      };
      add(makeByHand("i2 GEMV", rows, 2560, 1, ternary::Packing::I2, i2,
                     runI2Gemv));
      add(makeByHand("t5 GEMV", rows / 80 * 80, 2560, 1, ternary::Packing::T5,
                     t5, runT5Gemv));
      if (rows == 2560)
        add(makeByHand("i2 GEMM", rows, 2560, 96, ternary::Packing::I2, i2,
                       runI2Gemm));
    }
  }
  std::vector<int64_t> calls(cases.size(), 1);
  constexpr int kRounds = 25;
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < cases.size(); ++i) {
      double each = measure(cases[i], calls[i]);
      if (round > 1) // warm
        cases[i].times.push_back(each);
    }
  for (Case &c : cases) {
    llvm::sort(c.times);
    double least = c.times.front(), median = c.times[c.times.size() / 2];
    llvm::outs() << formatv("{0,-70} min {1,10:F2} us  median {2,10:F2} us  "
                            "{3,8:F2} {4}\n",
                            c.name, least * 1e6, median * 1e6, c.work / least,
                            c.unit);
  }
}
