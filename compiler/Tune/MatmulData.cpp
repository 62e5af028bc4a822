// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Tune/MatmulData.h"
#include "compiler/Support/PackedLayout.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/MathExtras.h"
#include <cstring>

using namespace llvm;
using namespace tercet;
using namespace tercet::reference;
using tercet::ternary::kRowGroup;

/// Tokens whose activations differ; more than any register tile has would only
/// cost the reference time.
static constexpr int64_t kDifferentTokens = 8;

/// Deterministic bits for any index.
static uint64_t mix(uint64_t index) {
  index *= 0x9e3779b97f4a7c15;
  return (index ^ index >> 29) * 0xbf58476d1ce4e5b9 >> 32;
}

MatmulData::MatmulData(MatmulShape shape, int64_t maxTokens)
    : shape(shape), maxTokens(maxTokens), trits({shape.rows, shape.cols}),
      q({maxTokens, shape.cols}), scale({maxTokens}),
      scales({shape.rows / kRowGroup}), sum({maxTokens, 1}) {
  int64_t group = shape.group ? shape.group : shape.cols;
  if (shape.group) {
    int64_t numGroups = divideCeil(shape.cols, shape.group);
    scales = Floats({shape.rows / kRowGroup, numGroups, kRowGroup});
    sum = Ints({maxTokens, numGroups});
  }
  for (size_t i = 0; i < trits.data.size(); ++i)
    trits.data[i] = int8_t(mix(i) % 3) - 1;
  for (size_t i = 0; i < scales.data.size(); ++i)
    scales.data[i] = float(mix(i) % 100 + 1) / 64;
  for (int64_t n = 0; n < maxTokens; ++n) {
    int64_t token = n % kDifferentTokens;
    scale.data[n] = float(token + 3);
    for (int64_t k = 0; k < shape.cols; ++k)
      sum.row(n)[k / group] += q.row(n)[k] =
          int8_t(mix(token * shape.cols + k));
  }
}

static Error allocate(PageMemory &memory, uint64_t size) {
  memory = PageMemory(size);
  if (!memory.data())
    return createStringError("no memory for the operands of a matmul");
  return Error::success();
}

Expected<MatmulData> MatmulData::create(MatmulShape shape, int64_t maxTokens) {
  MatmulData data(shape, maxTokens);
  if (Error error = allocate(data.alignedQ, data.q.data.size()))
    return std::move(error);
  std::memcpy(data.alignedQ.data(), data.q.data.data(), data.q.data.size());
  if (Error error = allocate(data.y, maxTokens * shape.rows * sizeof(float)))
    return std::move(error);
  return data;
}

ArrayRef<uint8_t> MatmulData::pack(ternary::Packing packing) {
  auto [entry, isNew] = packed.try_emplace(packing);
  std::vector<uint8_t> &bytes = entry->second;
  if (isNew) {
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    context.loadDialect<ternary::TernaryDialect>();
    auto layout = ternary::LayoutAttr::getTrits(&context, packing, {});
    bytes.resize(layout.getPackedBytes(shape.rows, shape.cols));
    packTrits(layout, trits.data, shape.cols, bytes);
  }
  return bytes;
}

Error MatmulData::spread(ArrayRef<Footprint> footprints) {
  spreads.clear();
  int64_t size = 0;
  for (const Footprint &footprint : footprints) {
    int64_t stride = alignTo(pack(footprint.packing).size(), 64);
    int64_t count = std::max<int64_t>(footprint.bytes / stride, 1);
    spreads[footprint.packing] = {.begin = size,
                                  .stride = stride,
                                  .count = count,
                                  .areCached = footprint.isCached};
    size += stride * count;
  }
  if (uint64_t(size) > arena.size())
    if (Error error = allocate(arena, size))
      return error;
  auto *memory = static_cast<uint8_t *>(arena.data());
  for (const auto &[packing, copies] : spreads) {
    ArrayRef<uint8_t> bytes = pack(packing);
    for (int64_t copy = 0; copy < copies.count; ++copy)
      llvm::copy(bytes, memory + copies.begin + copy * copies.stride);
  }
  return Error::success();
}

void MatmulData::run(const MatmulKernel &kernel, ternary::Packing packing,
                     tercet_pool *pool) {
  Copies &copies = spreads.at(packing);
  auto *copy = static_cast<const uint8_t *>(arena.data()) + copies.begin +
               copies.next * copies.stride;
  copies.next = (copies.next + 1) % copies.count;
  kernel.run({static_cast<const int8_t *>(alignedQ.data()), scale.data.data(),
              sum.data.data(), copy, scales.data.data(),
              static_cast<float *>(y.data())},
             pool);
}

void MatmulData::computeReference() {
  int64_t numTokens = std::min(maxTokens, kDifferentTokens);
  SmallVector<int64_t> accShape = {numTokens, shape.rows};
  std::optional<int64_t> group;
  if (shape.group) {
    group = shape.group;
    accShape.insert(accShape.begin() + 1, sum.shape[1]);
  }
  Bytes some({numTokens, shape.cols});
  std::copy_n(q.data.begin(), some.data.size(), some.data.begin());
  Ints acc(accShape);
  reference::matmul(some, trits, 0, acc, group);
  expected.emplace(ArrayRef<int64_t>{numTokens, shape.rows});
  if (group)
    return reference::rescaleGroups(acc, scale, unpackGroupScales(scales), 0,
                                    *expected);
  for (int64_t rows = 0; rows < shape.rows; rows += kRowGroup)
    reference::rescale(acc, scale, scales.data[rows / kRowGroup], rows,
                       rows + kRowGroup, *expected);
}

bool MatmulData::isExact(int64_t numTokens) {
  if (!expected)
    computeReference();
  for (int64_t n = 0; n < numTokens; ++n)
    if (std::memcmp(static_cast<float *>(y.data()) + n * shape.rows,
                    expected->row(n % kDifferentTokens).data(),
                    shape.rows * sizeof(float)) != 0)
      return false;
  return true;
}
