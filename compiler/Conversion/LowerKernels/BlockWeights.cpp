// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/BlockWeights.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

Value tercet::loadCodes(KernelBuilder &b, CodeChunk chunk, Value packed,
                        Value address, int64_t plane, int64_t lanes) {
  auto bytes = VectorType::get(4 * lanes, b.getI8Type());
  auto load = [&](int64_t vector) {
    return b.loadBytes(bytes, packed, b.addIndex(address, vector * 64));
  };
  auto shift = [&](Value a, int64_t left) -> Value {
    if (left == 0)
      return a;
    Value distance = b.splatInt(std::abs(left), bytes);
    return left > 0 ? arith::ShLIOp::create(b, a, distance).getResult()
                    : arith::ShRUIOp::create(b, a, distance).getResult();
  };
  auto nibble = [&](Value v, int64_t i) {
    return b.andInt(shift(v, -4 * i), b.splatInt(15, bytes));
  };
  switch (chunk.bits) {
  case 8:
    return load(0);
  case 4:
    return nibble(load(0), plane);
  case 6: {
    Value high =
        b.andInt(shift(load(2), 4 - 2 * plane), b.splatInt(3 << 4, bytes));
    return arith::OrIOp::create(b, nibble(load(plane / 2), plane % 2), high);
  }
  }
  llvm_unreachable("no codes of so many bits");
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// An f32 of this plus a small integer has the integer in its low bits. It has
/// two significant bits, so that its product with a scale of 18 bits is exact.
static constexpr float kMagic = 0x1.8p23f;

Value BlockWeights::splat(float value) {
  return arith::ConstantOp::create(b, DenseElementsAttr::get(floats(), value));
}

BlockWeights::Group BlockWeights::loadGroup(Value block, Value group,
                                            Value row) {
  auto address = [&](int64_t offset) {
    return b.addIndex(b.addIndex(block, offset), row);
  };
  auto halves = VectorType::get(lanes, b.getF16Type());
  auto loadHalves = [&](int64_t offset) {
    return b.widen(
        b.loadBytes(halves, packed, b.addIndex(address(offset), row)));
  };
  Value scale = loadHalves(0), offset;
  if (format.hasOffset)
    offset = loadHalves(2 * tileRows);
  if (format.hasGroupScales()) {
    int64_t stride = format.groupScalesOffset(tileRows, 1) -
                     format.groupScalesOffset(tileRows, 0);
    auto ints = VectorType::get(lanes, b.getI8Type());
    auto loadInts = [&](int64_t offset) {
      offset += format.groupScalesOffset(tileRows, 0);
      return b.toFloat(b.extendI8(
          b.loadBytes(ints, packed,
                      b.addIndex(address(offset), b.mulIndex(group, stride)))));
    };
    scale = b.mul(scale, loadInts(0));
    if (format.hasOffset)
      offset = b.mul(offset, loadInts(tileRows));
  }
  if (!format.hasOffset)
    offset = b.mul(scale, splat(usesDots() ? -kMagic : -float(format.zero)));

  Value codes = b.addIndex(b.addIndex(block, format.codesOffset(tileRows, 0)),
                           b.mulIndex(group, format.groupCodesSize(tileRows)));
  Value inGroup =
      b.addIndex(b.mulIndex(b.divIndex(row, kRowGroup), format.chunkSize()),
                 b.mulIndex(b.remIndex(row, kRowGroup), 4));
  return {{scale, b.mul(scale, splat(0x1p-8f)), b.mul(scale, splat(0x1p-16f))},
          offset,
          b.addIndex(codes, inGroup)};
}

Value BlockWeights::getChunk(const Group &group, int64_t column) {
  int64_t chunk = column / format.chunkColumns();
  return b.addIndex(group.codes,
                    chunk * (tileRows / kRowGroup) * format.chunkSize());
}

Value BlockWeights::loadCodes(const Group &group, int64_t column) {
  return tercet::loadCodes(b, format, packed, getChunk(group, column),
                           column % format.chunkColumns() / 4, lanes);
}

/// x * scale + offset where the product is exact: an fma if there is such an
/// instruction, else two instructions, which round as often.
static Value multiplyAdd(KernelBuilder &b, Value x, Value scale, Value offset) {
  auto contract = arith::FastMathFlags::contract;
  Value product = arith::MulFOp::create(b, x, scale, contract);
  return arith::AddFOp::create(b, product, offset, contract);
}

/// Two instructions make a float of a code, or one: it is masked and converted,
/// or a dot product adds it to a float of no fraction. Codes of 6 bits or
/// fewer have scales of at most 18, those of 8 bits 11: products are exact. The
/// sum is, too, if there is no offset, and is rounded once if there is one.
Value BlockWeights::decode(const Group &group, Value codes, int64_t i) {
  auto words = VectorType::get(lanes, b.getI32Type());
  if (usesDots()) {
    Value one = b.bitcast(cast<VectorType>(codes.getType()),
                          b.splatInt(int64_t(1) << (8 * i), words));
    int32_t magic = llvm::bit_cast<int32_t>(kMagic) - int32_t(format.zero);
    Value sum = DotOp::create(b, b.splatInt(magic, words), codes, one);
    return b.fma(b.bitcast(floats(), sum), group.scales[0], group.offset);
  }
  Value word = b.bitcast(words, codes);
  if (i == 3) {
    word = arith::ShRUIOp::create(b, word, b.splatInt(24, words));
    return multiplyAdd(b, b.toFloat(word), group.scales[0], group.offset);
  }
  word = b.andInt(word, b.splatInt(int64_t(0xff) << (8 * i), words));
  return multiplyAdd(b, b.toFloat(word), group.scales[i], group.offset);
}
