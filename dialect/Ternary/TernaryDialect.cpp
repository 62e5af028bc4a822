// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/SourceEncoding.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tercet::ternary;

#include "dialect/Ternary/TernaryDialect.cpp.inc"
#include "dialect/Ternary/TernaryEnums.cpp.inc"

/// The balanced digits of `value`, the least significant first.
static void getDigits(int value, MutableArrayRef<int8_t> trits) {
  for (int8_t &trit : trits) {
    trit = int8_t((value % 3 + 4) % 3 - 1); // equal to value modulo 3
    value = (value - trit) / 3;
  }
}

std::array<int8_t, 3> tercet::ternary::getT3Trits(uint8_t magnitude,
                                                  bool isNegative) {
  std::array<int8_t, 3> trits;
  getDigits(isNegative ? -magnitude : magnitude, trits);
  return trits;
}

std::array<int8_t, 5> tercet::ternary::getT5Trits(uint8_t byte) {
  int low = byte & 0x3f, magnitude = low % 21 * 2 + (byte >> 6 & 1);
  std::array<int8_t, 5> trits;
  getDigits(byte & 0x80 ? -magnitude : magnitude,
            MutableArrayRef(trits).drop_back());
  trits.back() = int8_t(low / 21 - 1);
  return trits;
}

/// `, chain = 16, in_place = true, plane_major = true, parts = 1`: any of them.
static ParseResult parseOptions(AsmParser &parser, int64_t &chain,
                                bool &inPlace, bool &planeMajor, int64_t &parts,
                                bool &blocks, int64_t &streams) {
  chain = streams = 1;
  parts = 0;
  inPlace = planeMajor = blocks = false;
  while (succeeded(parser.parseOptionalComma())) {
    StringRef name;
    if (failed(parser.parseOptionalKeyword(&name, {"chain", "parts", "streams",
                                                   "in_place", "plane_major",
                                                   "blocks"})))
      return parser.emitError(parser.getCurrentLocation(),
                              "expected an option of a layout");
    if (parser.parseEqual())
      return failure();
    int64_t *number = name == "chain"     ? &chain
                      : name == "parts"   ? &parts
                      : name == "streams" ? &streams
                                          : nullptr;
    if (number) {
      if (parser.parseInteger(*number))
        return failure();
      continue;
    }
    if (parser.parseKeyword("true"))
      return failure();
    (name == "in_place"      ? inPlace
     : name == "plane_major" ? planeMajor
                             : blocks) = true;
  }
  return success();
}

static void printOptions(AsmPrinter &printer, int64_t chain, bool inPlace,
                         bool planeMajor, int64_t parts, bool blocks,
                         int64_t streams) {
  if (chain != 1)
    printer << ", chain = " << chain;
  if (inPlace)
    printer << ", in_place = true";
  if (planeMajor)
    printer << ", plane_major = true";
  if (parts != 0)
    printer << ", parts = " << parts;
  if (blocks)
    printer << ", blocks = true";
  if (streams != 1)
    printer << ", streams = " << streams;
}

#define GET_ATTRDEF_CLASSES
#include "dialect/Ternary/TernaryAttributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "dialect/Ternary/TernaryTypes.cpp.inc"

/// Groups of 16 rows in a tile of trits; 0 for packings of floats.
static int64_t numPlanesOf(Packing packing) {
  switch (packing) {
  case Packing::I2:
    return 4;
  case Packing::T5:
    return 5;
  case Packing::T3:
    return 3;
  case Packing::L3:
    return 2;
  default:
    return 0;
  }
}

bool tercet::ternary::isPackingOfTrits(Packing packing) {
  return numPlanesOf(packing) != 0;
}

/// What packing and encoding have in common is their name.
static std::optional<Encoding> getBlockEncoding(Packing packing) {
  auto encoding = symbolizeEncoding(stringifyPacking(packing));
  return encoding && getBlockFormat(*encoding) ? encoding : std::nullopt;
}

bool tercet::ternary::isPackingOfBlocks(Packing packing) {
  return ::getBlockEncoding(packing).has_value();
}

void TernaryDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialect/Ternary/TernaryAttributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/Ternary/TernaryTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/Ternary/TernaryOps.cpp.inc"
      >();
}

LogicalResult LayoutAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Packing packing, int64_t tileRows,
                                 int64_t lanes, int64_t unroll, int64_t tokens,
                                 int64_t prefetch, int64_t chain, bool inPlace,
                                 bool planeMajor, int64_t parts, bool blocks,
                                 int64_t streams) {
  int64_t numPlanes = numPlanesOf(packing);
  bool wholeTiles = numPlanes ? tileRows == numPlanes * kRowGroup
                              : tileRows > 0 && tileRows % kRowGroup == 0;
  if (!wholeTiles)
    return emitError() << "(C1) tile_rows = " << tileRows << " is no tile of "
                       << stringifyPacking(packing);
  if (lanes <= 0 || unroll <= 0 || tokens <= 0 || chain <= 0 || streams <= 0 ||
      prefetch < 0 || parts < 0)
    return emitError() << "(C2) lanes, unroll, tokens, chain and streams must "
                          "be positive, prefetch and parts not negative";
  int64_t maxChain = packing == Packing::L3 ? kMaxTableChain : kMaxChain;
  if (chain > (inPlace ? 1 : maxChain))
    return emitError() << "(C3) chain = " << chain
                       << " may overflow i16: at most " << maxChain
                       << ", and 1 with in_place";
  if (packing == Packing::L3 && (inPlace || planeMajor || blocks))
    return emitError()
           << "(C4) l3 has neither in_place, plane_major nor blocks";
  bool dividesTiles = numPlanes && packing != Packing::L3 && chain == 1;
  if (numPlanes && (dividesTiles ? unroll % streams != 0 : streams != 1))
    return emitError() << "(C5) streams = " << streams
                       << " of trits must divide unroll, and be 1 in chains "
                          "and of l3";
  return success();
}

Schedule LayoutAttr::getSchedule() const {
  return {getLanes(),  getUnroll(),  getTokens(),     getPrefetch(),
          getChain(),  getInPlace(), getPlaneMajor(), getParts(),
          getBlocks(), getStreams()};
}

LayoutAttr LayoutAttr::withSchedule(const Schedule &schedule) const {
  return get(getContext(), getPacking(), getTileRows(), schedule);
}

LayoutAttr LayoutAttr::getTrits(MLIRContext *context, Packing packing,
                                const Schedule &schedule) {
  return get(context, packing, numPlanesOf(packing) * kRowGroup, schedule);
}

int64_t LayoutAttr::getNumPlanes() const { return numPlanesOf(getPacking()); }

bool LayoutAttr::packsTrits() const { return isPackingOfTrits(getPacking()); }

std::optional<Encoding> LayoutAttr::getBlockEncoding() const {
  return ::getBlockEncoding(getPacking());
}

std::optional<BlockFormat> LayoutAttr::getBlockFormat() const {
  std::optional<Encoding> encoding = getBlockEncoding();
  return encoding ? ternary::getBlockFormat(*encoding) : std::nullopt;
}

bool LayoutAttr::usesTables() const { return getPacking() == Packing::L3; }

int64_t LayoutAttr::getTableBytes(int64_t columns) const {
  // Also of the last cell of a strip.
  int64_t numTables =
      llvm::divideCeil(columns, getStripCell().columns) * getNumPlanes() * 3;
  return numTables * (getLanes() == kRowGroup ? 64 : 32);
}

int64_t LayoutAttr::getTableTokens(int64_t columns) const {
  int64_t tokens = kTablesSize / getTableBytes(columns);
  return std::max<int64_t>(tokens / getTokens(), 1) * getTokens();
}

/// Columns that a step has of each plane: four bytes, or a word of l3.
static int64_t planeColumnsOf(Packing packing) {
  return packing == Packing::L3 ? 9 : 4;
}

/// 64 bytes are 16 rows by some columns of each plane: one byte holds one trit
/// of each, or one word nine trits of one. Of t3 half a byte does, and eight
/// such steps share 64 bytes of signs.
static Cell makeCell(Packing packing, int64_t rows, int64_t stepColumns) {
  if (packing == Packing::T3)
    return {rows, 8 * stepColumns, 320, 8};
  return {rows, stepColumns, 64};
}

/// In a tile planes are groups of 16 rows, in a strip groups of columns.
Cell LayoutAttr::getCell() const {
  if (packsTrits())
    return makeCell(getPacking(), getTileRows(), planeColumnsOf(getPacking()));
  if (std::optional<BlockFormat> format = getBlockFormat())
    return {getTileRows(), format->columns, format->size(getTileRows())};
  bool isPair = getPacking() == Packing::BF16Pairs;
  int64_t size = getPacking() == Packing::F16 ? 2 : 4;
  return {getTileRows(), isPair ? 2 : 1, size * getTileRows()};
}

Cell LayoutAttr::getStripCell() const {
  return makeCell(getPacking(), kRowGroup,
                  planeColumnsOf(getPacking()) * getNumPlanes());
}

int64_t Cell::getBytes(int64_t numColumns) const {
  int64_t whole = numColumns / columns * bytes, rest = numColumns % columns;
  if (rest == 0 || steps == 1)
    return whole + (rest ? bytes : 0);
  return whole + 64 * (1 + llvm::divideCeil(rest, 2 * columns / steps));
}

int64_t LayoutAttr::getTileBytes(int64_t columns) const {
  return getCell().getBytes(columns);
}

int64_t LayoutAttr::getStripBytes(int64_t columns) const {
  return getStripCell().getBytes(columns);
}

int64_t LayoutAttr::getPackedBytes(int64_t rows, int64_t columns) const {
  int64_t numTiles = rows / getTileRows(), rest = rows % getTileRows();
  if (!packsTrits())
    return (numTiles + (rest != 0)) * getTileBytes(columns);
  return numTiles * getTileBytes(columns) +
         llvm::divideCeil(rest, kRowGroup) * getStripBytes(columns);
}

LogicalResult KVCacheType::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t layers, int64_t heads,
                                  int64_t capacity, int64_t headDim,
                                  KVElement) {
  if (layers <= 0 || heads <= 0 || capacity <= 0 || headDim <= 0)
    return emitError() << "sizes of a KV cache must be positive";
  return success();
}
