// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The ternary GEMV and GEMM by tables (l3): every sum that three activations
// can have with trits is computed once, and weights are indices of sums. No
// product is left; a lookup and an addition are three multiply-accumulates.
//
// For a block of tokens, first an item of each builds its tables. Then an item
// is `unroll` tiles of 32 rows side by side, which share what is loaded of the
// tables, a single tile, or a strip. In a 16-bit word nine columns of a row are
// three codes of 5 bits; the two words of a lane are two groups of rows, in a
// strip nine columns each of one (docs/packings.md).

#include "compiler/Conversion/LowerKernels/PackedMatmul.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

constexpr int64_t kTrits = 3; ///< of a code
constexpr int64_t kCodes = 3; ///< in a word
constexpr int64_t kCodeBits = 5;
constexpr int64_t kPlanes = 2; ///< words in a lane
/// Tiles of a GEMM whose sums find registers beside two codes of each.
constexpr int64_t kGemmTiles = 4;

class LookupMatmulKernel {
public:
  LookupMatmulKernel(PackedMatmulOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()), lanes(layout.getLanes()),
        numColumns(getNumColumns(op.getQ())) {}

  void emit();

private:
  /// Where the tables of a token begin, and how far apart they are.
  struct TablePlace {
    Value slot, first, step;
  };
  void emitTables(Value token, const TablePlace &place);
  Value buildTable(Value token, Value column, int64_t count);
  TablePlace getPlace(Value slot);
  std::pair<Value, Value> getBlock(Value slot);
  void storeTable(Value table, const TablePlace &place, Value number);
  void emitRows(Value address, Value firstGroup, int64_t numTiles,
                bool isStrip);
  void emitBlock(Value token, int64_t count);
  void emitParts();
  Values sumCells(Value firstCell, Value numCells);
  void emitCell(Value index, MutableArrayRef<Value> sums);
  void addWidened(ValueRange chained, MutableArrayRef<Value> sums);
  void storeSums(ValueRange sums);

  /// What a register holds of a table: 32 words, the entry 16 + i minus the
  /// entry i; or where registers are smaller the low and the high bytes of the
  /// first 16.
  bool hasWordTables() const { return lanes == kRowGroup; }
  int64_t getTableSize() const { return hasWordTables() ? 64 : 32; }
  struct Table {
    Value words, low, high;
  };
  Table loadTable(int64_t token, Value number);
  /// The codes in the low bits of words, as `addEntries` needs them.
  struct Codes {
    Value words, magnitudes, signs;
  };
  Codes splitCodes(Value words);
  Value joinBytes(Value low, Value high);
  Value addEntries(Value sum, const Table &table, const Codes &codes);
  /// Whether what entries of negative codes lack, 1 each, is summed up once for
  /// all tokens.
  bool sumsSignsApart() const { return !hasWordTables() && numTokens > 2; }

  VectorType bytes() { return VectorType::get(4 * lanes, b.getI8Type()); }
  VectorType words() { return VectorType::get(2 * lanes, b.getI16Type()); }
  VectorType ints() { return VectorType::get(lanes, b.getI32Type()); }
  /// Lookups of a vector. In a strip planes have columns of their own: one for
  /// each plane, of which the other plane's words are ignored.
  int64_t numHalves() const { return isStrip ? kPlanes : 1; }

  PackedMatmulOp op;
  KernelBuilder &b;
  LayoutAttr layout;
  int64_t lanes, numColumns;

  // The rows of an item.
  Value address, firstGroup;
  int64_t tilesOfItem;
  bool isStrip;
  Cell cell;
  Value endOfBlock; ///< tokens that have tables
  // A block of tokens, counted from the first that has tables, and the vectors
  // of `lanes` rows of each tile.
  Value firstOfTables, firstToken;
  int64_t numTokens, firstTile, numTiles;
  SmallVector<int64_t> parts;
};

} // namespace

void LookupMatmulKernel::emit() {
  int64_t numRows = getNumColumns(op.getOuts()), unroll = layout.getUnroll();
  int64_t numTiles = numRows / layout.getTileRows();
  int64_t numGrouped = numTiles / unroll * unroll;
  int64_t numStrips = numRows % layout.getTileRows() / kRowGroup;
  int64_t tileBytes = layout.getTileBytes(numColumns);
  auto emitTiles = [&](Value tile, int64_t count) {
    emitRows(b.mulIndex(tile, tileBytes), b.mulIndex(tile, kPlanes), count,
             /*isStrip=*/false);
  };
  auto emitGroup = [&](Value group) {
    emitTiles(b.mulIndex(group, unroll), unroll);
  };
  auto emitSingle = [&](Value tile) {
    emitTiles(b.addIndex(tile, numGrouped), 1);
  };
  auto emitStrip = [&](Value) {
    emitRows(b.index(numTiles * tileBytes), b.index(numTiles * kPlanes),
             /*numTiles=*/1, /*isStrip=*/true);
  };

  Value allTokens = b.dim(op.getQ(), 0);
  int64_t capacity = cast<ShapedType>(op.getTables().getType()).getDimSize(0);
  b.loop(b.index(0), allTokens, capacity, [&](Value first) {
    firstOfTables = first;
    endOfBlock = b.minIndex(b.subIndex(allTokens, first), b.index(capacity));
    b.parallel(endOfBlock, [&](Value slot) {
      emitTables(b.addIndex(first, slot), getPlace(slot));
    });
    b.parallel({{numGrouped / unroll, emitGroup},
                {numTiles - numGrouped, emitSingle},
                {numStrips, emitStrip}});
  });
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// The tables of a token. Columns beyond K count as zero.
void LookupMatmulKernel::emitTables(Value token, const TablePlace &place) {
  int64_t numTables = layout.getTableBytes(numColumns) / getTableSize();
  int64_t whole = numColumns / kTrits;
  b.loop(b.index(0), b.index(whole), 1, [&](Value number) {
    storeTable(buildTable(token, b.mulIndex(number, kTrits), kTrits), place,
               number);
  });
  for (int64_t i = whole; i < numTables; ++i) {
    int64_t column = i * kTrits;
    storeTable(buildTable(token, b.index(column),
                          std::max<int64_t>(numColumns - column, 0)),
               place, b.index(i));
  }
}

/// The sums of `count` columns with the trits of every code.
Value LookupMatmulKernel::buildTable(Value token, Value column, int64_t count) {
  auto type = VectorType::get(hasWordTables() ? 32 : 16, b.getI16Type());
  Value table = b.splatInt(0, type);
  for (int64_t i = 0; i < count; ++i) {
    SmallVector<int16_t> trits;
    for (int64_t code = 0; code < type.getNumElements(); ++code)
      trits.push_back(getT3Trits(code & 0xf, code >> 4)[i]);
    Value q = arith::ExtSIOp::create(
        b, b.getI16Type(),
        b.loadScalar(op.getQ(), {token, b.addIndex(column, i)}));
    Value products = arith::MulIOp::create(
        b,
        arith::ConstantOp::create(
            b, DenseElementsAttr::get(type, ArrayRef<int16_t>(trits))),
        vector::BroadcastOp::create(b, type, q));
    table = b.addInt(table, products);
  }
  return table;
}

/// The first token of the block that a token is in (`blockedLoop`), and how
/// many it has.
std::pair<Value, Value> LookupMatmulKernel::getBlock(Value slot) {
  Value begin = b.index(0), first = slot, count = b.index(1);
  for (int64_t size = layout.getTokens(); size > 1;
       size = llvm::bit_floor<uint64_t>(size - 1)) {
    auto floor = [&](Value token) {
      Value blocks = b.divIndex(b.subIndex(token, begin), size);
      return b.addIndex(begin, b.mulIndex(blocks, size));
    };
    Value end = floor(endOfBlock);
    Value isInside = arith::AndIOp::create(
        b, arith::CmpIOp::create(b, arith::CmpIPredicate::uge, slot, begin),
        b.isLess(slot, end));
    first = b.select(isInside, floor(slot), first);
    count = b.select(isInside, b.index(size), count);
    begin = end;
  }
  return {first, count};
}

/// Of words one token's tables follow each other. Of bytes the tables of the
/// tokens of a block are side by side: an instruction that loads two registers
/// reaches those of all.
LookupMatmulKernel::TablePlace LookupMatmulKernel::getPlace(Value slot) {
  Value size = b.index(getTableSize());
  if (hasWordTables())
    return {slot, b.index(0), size};
  auto [first, count] = getBlock(slot);
  return {first, b.mulIndex(b.subIndex(slot, first), size),
          b.mulIndex(count, size)};
}

void LookupMatmulKernel::storeTable(Value table, const TablePlace &place,
                                    Value number) {
  Value address = b.addIndex(place.first, b.mulIndex(number, place.step));
  if (hasWordTables())
    return b.storeBytes(table, op.getTables(), {place.slot, address});
  auto halfType = VectorType::get(16, b.getI8Type());
  for (int64_t half : {0, 1})
    b.storeBytes(
        arith::TruncIOp::create(b, halfType, b.shiftRight(table, 8 * half)),
        op.getTables(), {place.slot, b.addIndex(address, 16 * half)});
}

LookupMatmulKernel::Table LookupMatmulKernel::loadTable(int64_t token,
                                                        Value number) {
  auto load = [&](VectorType type, Value slot, Value address) {
    return b.loadBytes(type, op.getTables(), {slot, address});
  };
  if (hasWordTables())
    return {load(words(), b.addIndex(firstToken, token),
                 b.mulIndex(number, getTableSize())),
            {},
            {}};
  auto halfType = VectorType::get(16, b.getI8Type());
  Value address = b.addIndex(b.mulIndex(number, numTokens * getTableSize()),
                             token * getTableSize());
  return {{},
          load(halfType, firstToken, address),
          load(halfType, firstToken, b.addIndex(address, 16))};
}

LookupMatmulKernel::Codes LookupMatmulKernel::splitCodes(Value vector) {
  if (hasWordTables())
    return {vector, {}, {}};
  Value magnitudes = b.andInt(vector, b.splatInt(0xf, words()));
  return {vector, b.bitcast(bytes(), magnitudes),
          b.shiftRight(b.shiftLeft(vector, 16 - kCodeBits), 15)};
}

/// Words of the even bytes; odd ones are 0.
Value LookupMatmulKernel::joinBytes(Value low, Value high) {
  if (!b.options.interleavesBytes)
    return arith::OrIOp::create(b, b.bitcast(words(), low),
                                b.shiftLeft(b.bitcast(words(), high), 8));
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < 4 * lanes; ++i)
    mask.push_back(i / 2 * 2 + i % 2 * 4 * lanes);
  return b.bitcast(words(), vector::ShuffleOp::create(b, low, high, mask));
}

/// Bytes are looked up in the lower half of each word; the upper one has index
/// 0, and the entry 0 is 0.
Value LookupMatmulKernel::addEntries(Value sum, const Table &table,
                                     const Codes &codes) {
  if (hasWordTables())
    return b.addInt(sum,
                    LookupOp::create(b, words(), table.words, codes.words));
  Value low = LookupOp::create(b, bytes(), table.low, codes.magnitudes);
  Value high = LookupOp::create(b, bytes(), table.high, codes.magnitudes);
  Value entry = arith::XOrIOp::create(b, joinBytes(low, high), codes.signs);
  sum = b.addInt(sum, entry);
  return sumsSignsApart() ? sum : b.subInt(sum, codes.signs);
}

//===----------------------------------------------------------------------===//
// Sums
//===----------------------------------------------------------------------===//

void LookupMatmulKernel::emitRows(Value itemAddress, Value itemGroup,
                                  int64_t itemTiles, bool itemIsStrip) {
  address = itemAddress;
  firstGroup = itemGroup;
  tilesOfItem = itemTiles;
  isStrip = itemIsStrip;
  cell = isStrip ? layout.getStripCell() : layout.getCell();
  b.blockedLoop(endOfBlock, layout.getTokens(),
                [&](Value token, int64_t count) { emitBlock(token, count); });
}

/// A GEMV takes all tiles of an item and several vectors of a group of rows at
/// a time, a GEMM the tiles whose sums have registers and one vector, or as
/// many as a GEMV where their signs take none for each token.
void LookupMatmulKernel::emitBlock(Value token, int64_t count) {
  firstToken = token;
  numTokens = count;
  int64_t numParts = kRowGroup / lanes;
  int64_t atOnce = count > 1 && !sumsSignsApart() ? 1
                   : layout.getParts()            ? layout.getParts()
                                                  : numParts;
  int64_t maxTiles = count > 1 ? kGemmTiles : tilesOfItem;
  firstTile = 0;
  for (int64_t tiles : splitEvenly(tilesOfItem, maxTiles)) {
    numTiles = tiles;
    for (int64_t first = 0; first < numParts; first += atOnce) {
      parts = llvm::to_vector(
          llvm::seq<int64_t>(first, std::min(first + atOnce, numParts)));
      emitParts();
    }
    firstTile += tiles;
  }
}

/// All of K. Chains in i16 are widened one after the other; the sums in i32 are
/// touched between them only, and so may be in memory where registers are few.
/// With the sums of several tokens a loop of its own for the last chain would
/// have them there too.
void LookupMatmulKernel::emitParts() {
  int64_t chain = layout.getChain();
  int64_t numCells = llvm::divideCeil(numColumns, cell.columns);
  bool sharesLoop = sumsSignsApart();
  int64_t end = sharesLoop ? numCells : numCells / chain * chain;
  Value zero = b.splatInt(0, ints());
  Values sums(numTiles * parts.size() * numTokens * kPlanes, zero);
  auto addChain = [&](ValueRange carried, Value firstCell, Value count) {
    Values next(carried.begin(), carried.end());
    addWidened(sumCells(firstCell, count), next);
    return next;
  };
  sums = b.loop(b.index(0), b.index(end), chain, sums,
                [&](Value firstCell, ValueRange carried) {
                  Value count = b.index(chain);
                  if (end % chain)
                    count =
                        b.minIndex(count, b.subIndex(b.index(end), firstCell));
                  return addChain(carried, firstCell, count);
                });
  if (end < numCells)
    sums = addChain(sums, b.index(end), b.index(numCells - end));
  storeSums(sums);
}

/// A sum in i16 for each tile, part, token and half, in this order.
Values LookupMatmulKernel::sumCells(Value firstCell, Value numCells) {
  Value zero = b.splatInt(0, words());
  size_t numVectors = numTiles * parts.size();
  size_t sumsOfVector = numTokens * numHalves();
  Values sums(numVectors * sumsOfVector, zero);
  if (sumsSignsApart())
    sums.append(numVectors, zero);
  sums = b.loop(firstCell, b.addIndex(firstCell, numCells), 1, sums,
                [&](Value index, ValueRange carried) {
                  Values sums(carried.begin(), carried.end());
                  emitCell(index, sums);
                  return sums;
                });
  if (sumsSignsApart()) {
    Values signs(ArrayRef(sums).take_back(numVectors));
    sums.truncate(numVectors * sumsOfVector);
    for (auto [i, sum] : llvm::enumerate(sums))
      sum = b.subInt(sum, signs[i / sumsOfVector]);
  }
  return sums;
}

void LookupMatmulKernel::emitCell(Value index, MutableArrayRef<Value> sums) {
  Values vectors;
  for (int64_t tile = 0; tile < numTiles; ++tile)
    for (int64_t part : parts) {
      Value from = b.addIndex(
          address,
          b.addIndex(b.mulIndex(index, cell.bytes),
                     (firstTile + tile) * layout.getTileBytes(numColumns) +
                         part * 4 * lanes));
      if (numTokens == 1 && layout.getPrefetch() && part == 0)
        b.prefetch(op.getWeights(), b.addIndex(from, layout.getPrefetch()));
      vectors.push_back(b.loadBytes(words(), op.getWeights(), from));
    }

  Value firstTable = b.mulIndex(index, numHalves() * kCodes);
  for (int64_t code = 0; code < kCodes; ++code) {
    SmallVector<Codes> codes;
    for (Value &vector : vectors) {
      if (code > 0)
        vector =
            arith::ShRUIOp::create(b, vector, b.splatInt(kCodeBits, words()));
      codes.push_back(splitCodes(vector));
    }
    if (sumsSignsApart())
      for (auto [sum, vectorCodes] :
           llvm::zip_equal(sums.take_back(codes.size()), codes))
        sum = b.addInt(sum, vectorCodes.signs);
    for (int64_t token = 0; token < numTokens; ++token)
      for (int64_t half = 0; half < numHalves(); ++half) {
        Table table =
            loadTable(token, b.addIndex(firstTable, half * kCodes + code));
        for (auto [i, vectorCodes] : llvm::enumerate(codes)) {
          Value &sum = sums[(i * numTokens + token) * numHalves() + half];
          sum = addEntries(sum, table, vectorCodes);
        }
      }
  }
}

/// Adds the words of each plane. A half of a strip has its plane's only.
void LookupMatmulKernel::addWidened(ValueRange chained,
                                    MutableArrayRef<Value> sums) {
  for (auto [i, sum] : llvm::enumerate(sums)) {
    int64_t plane = i % kPlanes;
    Value both = b.bitcast(ints(), isStrip ? chained[i] : chained[i / kPlanes]);
    Value word = b.shiftRight(plane == 0 ? b.shiftLeft(both, 16) : both, 16);
    sum = b.addInt(sum, word);
  }
}

void LookupMatmulKernel::storeSums(ValueRange sums) {
  size_t i = 0;
  for (int64_t tile = 0; tile < numTiles; ++tile)
    for (int64_t part : parts)
      for (int64_t token = 0; token < numTokens; ++token, i += kPlanes) {
        Value index = b.addIndex(firstOfTables, b.addIndex(firstToken, token));
        auto store = [&](Value sum, int64_t group) {
          storeRescaled(b, op, sum, index, b.addIndex(firstGroup, group),
                        part * lanes);
        };
        if (isStrip) {
          store(b.addInt(sums[i], sums[i + 1]), 0);
          continue;
        }
        for (int64_t plane = 0; plane < kPlanes; ++plane)
          store(sums[i + plane], (firstTile + tile) * kPlanes + plane);
      }
}

void tercet::emitLookupMatmul(PackedMatmulOp op, KernelBuilder &b) {
  LookupMatmulKernel(op, b).emit();
}
