// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/GGUF/GGUFReader.h"
#include "frontends/Support/InputError.h"
#include "frontends/Support/InputFile.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace tercet;

constexpr uint32_t kMaxRank = 4; // ggml's own limit

/// What can be compiled, and what a tensor next to it may have. Ids of 100 and
/// more are those of ik_llama.cpp, 36 is of BitNet's llama.cpp.
const GGMLType *GGMLType::find(uint32_t id) {
  static constexpr GGMLType types[] = {
      {0, "F32", 1, 4},
      {1, "F16", 1, 2},
      {2, "Q4_0", 32, 18},
      {3, "Q4_1", 32, 20},
      {6, "Q5_0", 32, 22},
      {7, "Q5_1", 32, 24},
      {8, "Q8_0", 32, 34},
      {10, "Q2_K", 256, 84},
      {11, "Q3_K", 256, 110},
      {12, "Q4_K", 256, 144},
      {13, "Q5_K", 256, 176},
      {14, "Q6_K", 256, 210},
      {24, "I8", 1, 1},
      {25, "I16", 1, 2},
      {26, "I32", 1, 4},
      {27, "I64", 1, 8},
      {28, "F64", 1, 8},
      {30, "BF16", 1, 2},
      {34, "TQ1_0", 256, 54},
      {35, "TQ2_0", 256, 66},
      {36, "I2_S", 4, 1, /*rowBytes=*/0, /*tailBytes=*/32},
      {134, "IQ1_BN", 64, 13, /*rowBytes=*/2},
      {135, "IQ2_BN", 64, 16, /*rowBytes=*/4},
  };
  const GGMLType *type =
      llvm::find_if(types, [&](const GGMLType &type) { return type.id == id; });
  return type == std::end(types) ? nullptr : type;
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

template <typename T> static T readLittle(const uint8_t *bytes) {
  return support::endian::read<T, endianness::little>(bytes);
}

/// Bytes of a value of fixed size; 0 when the size varies or is unknown.
static uint64_t getSize(GGUFType type) {
  switch (type) {
  case GGUFType::U8:
  case GGUFType::I8:
  case GGUFType::Bool:
    return 1;
  case GGUFType::U16:
  case GGUFType::I16:
    return 2;
  case GGUFType::U32:
  case GGUFType::I32:
  case GGUFType::F32:
    return 4;
  case GGUFType::U64:
  case GGUFType::I64:
  case GGUFType::F64:
    return 8;
  default:
    return 0;
  }
}

static std::optional<int64_t> decodeInteger(GGUFType type, const uint8_t *at) {
  switch (type) {
  case GGUFType::U8:
    return *at;
  case GGUFType::I8:
    return int8_t(*at);
  case GGUFType::U16:
    return readLittle<uint16_t>(at);
  case GGUFType::I16:
    return readLittle<int16_t>(at);
  case GGUFType::U32:
    return readLittle<uint32_t>(at);
  case GGUFType::I32:
    return readLittle<int32_t>(at);
  case GGUFType::I64:
    return readLittle<int64_t>(at);
  case GGUFType::U64:
    if (uint64_t value = readLittle<uint64_t>(at); value <= INT64_MAX)
      return value;
    return std::nullopt;
  default:
    return std::nullopt;
  }
}

static std::optional<double> decodeNumber(GGUFType type, const uint8_t *at) {
  if (type == GGUFType::F32)
    return readLittle<float>(at);
  if (type == GGUFType::F64)
    return readLittle<double>(at);
  return decodeInteger(type, at);
}

template <typename T>
static std::optional<std::vector<T>>
decodeAll(GGUFType type, ArrayRef<uint8_t> bytes,
          std::optional<T> (*decode)(GGUFType, const uint8_t *)) {
  std::vector<T> result;
  uint64_t size = std::max<uint64_t>(getSize(type), 1);
  result.reserve(bytes.size() / size);
  for (; !bytes.empty(); bytes = bytes.drop_front(size)) {
    std::optional<T> value = decode(type, bytes.data());
    if (!value)
      return std::nullopt;
    result.push_back(*value);
  }
  return result;
}

std::optional<int64_t> GGUFValue::getInteger() const {
  return isArray ? std::nullopt : decodeInteger(type, bytes.data());
}

std::optional<double> GGUFValue::getNumber() const {
  return isArray ? std::nullopt : decodeNumber(type, bytes.data());
}

std::optional<bool> GGUFValue::getBoolean() const {
  if (isArray || type != GGUFType::Bool)
    return std::nullopt;
  return bytes.front() != 0;
}

std::optional<StringRef> GGUFValue::getString() const {
  if (isArray || type != GGUFType::String)
    return std::nullopt;
  return toStringRef(bytes.drop_front(sizeof(uint64_t)));
}

std::optional<std::vector<int64_t>> GGUFValue::getIntegers() const {
  if (!isArray)
    return std::nullopt;
  return decodeAll<int64_t>(type, bytes, decodeInteger);
}

std::optional<std::vector<double>> GGUFValue::getNumbers() const {
  if (!isArray)
    return std::nullopt;
  return decodeAll<double>(type, bytes, decodeNumber);
}

std::optional<std::vector<StringRef>> GGUFValue::getStrings() const {
  if (!isArray || type != GGUFType::String)
    return std::nullopt;
  std::vector<StringRef> result;
  result.reserve(count);
  for (ArrayRef<uint8_t> rest = bytes; !rest.empty();) {
    uint64_t length = readLittle<uint64_t>(rest.data());
    rest = rest.drop_front(sizeof(uint64_t));
    result.push_back(toStringRef(rest.take_front(length)));
    rest = rest.drop_front(length);
  }
  return result;
}

std::string GGUFValue::print() const {
  if (isArray)
    return formatv("an array of {0} values", count);
  if (std::optional<StringRef> string = getString())
    return formatv("'{0}'", *string);
  if (std::optional<bool> boolean = getBoolean())
    return *boolean ? "true" : "false";
  if (std::optional<int64_t> integer = getInteger())
    return std::to_string(*integer);
  if (std::optional<double> number = getNumber())
    return printNumber(*number);
  return std::to_string(readLittle<uint64_t>(bytes.data())); // beyond int64
}

//===----------------------------------------------------------------------===//
// One file
//===----------------------------------------------------------------------===//

namespace tercet {

/// Reads a file front to back. What lies past its end reads as zeros, and
/// `truncated` remembers it, so that the functions below read as lists.
class GGUFParser {
public:
  explicit GGUFParser(const MemoryBuffer &file)
      : path(file.getBufferIdentifier()),
        bytes(arrayRefFromStringRef(file.getBuffer())) {}

  Error parse();

  StringMap<GGUFValue> values;
  std::vector<GGUFTensor> tensors; ///< by offset

private:
  ArrayRef<uint8_t> take(uint64_t size);
  template <typename T> T take() {
    ArrayRef<uint8_t> taken = take(sizeof(T));
    return taken.empty() ? T() : readLittle<T>(taken.data());
  }
  StringRef takeString() { return toStringRef(take(take<uint64_t>())); }

  Error parseVersion();
  Error parseValue();
  Error parseTensor();
  Expected<uint64_t> parseAlignment() const;
  Error placeTensors();
  Error truncatedError() const;

  StringRef path;
  ArrayRef<uint8_t> bytes;
  uint64_t at = 0;
  bool truncated = false;
};

} // namespace tercet

ArrayRef<uint8_t> GGUFParser::take(uint64_t size) {
  if (truncated || size > bytes.size() - at) {
    truncated = true;
    return {};
  }
  at += size;
  return bytes.slice(at - size, size);
}

Error GGUFParser::truncatedError() const {
  return inputError(path,
                    "ends inside its header, which continues at byte {0}; it "
                    "is truncated or damaged, download it again",
                    at);
}

Error GGUFParser::parseVersion() {
  if (toStringRef(take(4)) != "GGUF")
    return inputError(path, "is no GGUF file: it does not start with 'GGUF'");
  uint32_t version = take<uint32_t>();
  if (truncated)
    return truncatedError();
  if (version == 2 || version == 3)
    return Error::success();
  if ((version & 0xffff) == 0)
    return inputError(path, "is big-endian; convert the model again without "
                            "--big-endian");
  if (version == 1)
    return inputError(path, "is of GGUF version 1; convert the model again "
                            "with a converter of today, which writes 3");
  return inputError(path, "is of GGUF version {0}; only 2 and 3 are supported",
                    version);
}

Error GGUFParser::parseValue() {
  StringRef key = takeString();
  std::string where = formatv("{0}: key '{1}'", path, key).str();
  GGUFValue value;
  value.type = GGUFType(take<uint32_t>());
  value.isArray = value.type == GGUFType::Array;
  if (value.isArray) {
    value.type = GGUFType(take<uint32_t>());
    value.count = take<uint64_t>();
    if (value.type == GGUFType::Array)
      return inputError(where, "is an array of arrays, which no model needs");
  }
  if (truncated)
    return Error::success(); // parse() says so
  uint64_t begin = at;
  if (value.type == GGUFType::String) {
    for (uint64_t i = 0; i < value.count && !truncated; ++i)
      takeString();
  } else {
    uint64_t size = getSize(value.type);
    if (size == 0)
      return inputError(where, "has the unknown type {0}",
                        uint32_t(value.type));
    (void)take(SaturatingMultiply(size, value.count));
  }
  value.bytes = bytes.slice(begin, at - begin);
  if (!truncated && !values.try_emplace(key, value).second)
    return inputError(where, "appears twice");
  return Error::success();
}

/// " (IQ2_BN_R4)": types that ternary models come in, repacked for one engine.
static StringRef describeUnsupported(uint32_t id) {
  switch (id) {
  case 38:
    return " (TL1)";
  case 39:
    return " (TL2 or MXFP4)";
  case 42:
    return " (Q2_0)";
  case 335:
    return " (IQ2_BN_R4)";
  default:
    return "";
  }
}

/// Name, shape, type, and the offset as the file gives it.
Error GGUFParser::parseTensor() {
  GGUFTensor tensor;
  tensor.name = takeString();
  tensor.path = path;
  std::string where = formatv("{0}: tensor '{1}'", path, tensor.name).str();
  uint32_t rank = take<uint32_t>();
  if (rank > kMaxRank)
    return inputError(where, "has {0} dimensions, more than {1}", rank,
                      kMaxRank);
  for (uint32_t i = 0; i < rank; ++i)
    tensor.shape.push_back(take<int64_t>());
  std::reverse(tensor.shape.begin(), tensor.shape.end()); // innermost was first
  uint32_t id = take<uint32_t>();
  tensor.offset = take<uint64_t>();
  tensor.type = GGMLType::find(id);
  if (truncated)
    return Error::success(); // parse() says so
  if (!tensor.type)
    return inputError(where,
                      "its ggml type {0}{1} is not supported; convert the "
                      "model again, ternary weights to TQ2_0, others to F16",
                      id, describeUnsupported(id));
  tensors.push_back(std::move(tensor));
  return Error::success();
}

/// Bytes of all elements; nothing when 64 bits do not hold their number.
static std::optional<int64_t> getDataSize(const GGMLType &type,
                                          ArrayRef<int64_t> shape) {
  int64_t rows = 1, columns = 1, rowSize, size;
  if (!shape.empty()) {
    columns = shape.back();
    for (int64_t extent : shape.drop_back())
      if (extent < 0 || MulOverflow(rows, extent, rows))
        return std::nullopt;
  }
  if (columns < 0 ||
      MulOverflow<int64_t>(columns / type.blockSize, type.blockBytes,
                           rowSize) ||
      AddOverflow<int64_t>(rowSize, type.rowBytes, rowSize) ||
      MulOverflow(rows, rowSize, size) ||
      AddOverflow<int64_t>(size, type.tailBytes, size))
    return std::nullopt;
  return size;
}

Expected<uint64_t> GGUFParser::parseAlignment() const {
  constexpr int64_t kDefault = 32, kMax = 1 << 30;
  auto it = values.find("general.alignment");
  if (it == values.end())
    return kDefault;
  std::optional<int64_t> alignment = it->second.getInteger();
  if (!alignment || *alignment < 1 || *alignment > kMax ||
      !isPowerOf2_64(*alignment))
    return inputError(path,
                      "'general.alignment' must be a power of two, not "
                      "{0}",
                      it->second.print());
  return *alignment;
}

/// Finds each tensor's bytes in the data, which start where the header ends.
Error GGUFParser::placeTensors() {
  Expected<uint64_t> alignment = parseAlignment();
  if (!alignment)
    return alignment.takeError();
  uint64_t dataBegin = alignTo(at, *alignment);
  if (tensors.empty())
    return Error::success();
  if (dataBegin > bytes.size())
    return truncatedError();
  ArrayRef<uint8_t> data = bytes.drop_front(dataBegin);
  for (GGUFTensor &tensor : tensors) {
    std::string where = formatv("{0}: tensor '{1}'", path, tensor.name).str();
    const GGMLType &type = *tensor.type;
    std::optional<int64_t> size = getDataSize(type, tensor.shape);
    if (!size)
      return inputError(where, "its size overflows 64 bits");
    if (!tensor.shape.empty() && tensor.shape.back() % type.blockSize != 0)
      return inputError(where,
                        "has rows of {0} elements, no whole number of the {1} "
                        "of a block of {2}",
                        tensor.shape.back(), type.blockSize, type.name);
    if (tensor.offset % *alignment != 0)
      return inputError(where,
                        "offset {0} is not a multiple of the file's "
                        "alignment {1}",
                        tensor.offset, *alignment);
    if (tensor.offset > data.size() ||
        uint64_t(*size) > data.size() - tensor.offset)
      return inputError(where,
                        "{0} of shape {1} needs {2} bytes from byte {3} of the "
                        "data on, which has {4}; the file is truncated, "
                        "download it again",
                        type.name, printShape(tensor.shape), *size,
                        tensor.offset, data.size());
    tensor.bytes = data.slice(tensor.offset, *size);
  }

  llvm::sort(tensors, [](const GGUFTensor &a, const GGUFTensor &b) {
    return std::tuple(a.offset, a.bytes.size(), a.name) <
           std::tuple(b.offset, b.bytes.size(), b.name);
  });
  uint64_t end = 0;
  StringRef previous;
  for (GGUFTensor &tensor : tensors) {
    if (tensor.offset < end)
      return inputError(
          path,
          "tensor '{0}' starts at byte {1} of the data, but '{2}' "
          "ends at {3}: they overlap",
          tensor.name, tensor.offset, previous, end);
    end = tensor.offset + tensor.bytes.size();
    previous = tensor.name;
    tensor.offset += dataBegin;
  }
  return Error::success();
}

Error GGUFParser::parse() {
  if (Error error = parseVersion())
    return error;
  uint64_t numTensors = take<uint64_t>(), numValues = take<uint64_t>();
  for (uint64_t i = 0; i < numValues && !truncated; ++i)
    if (Error error = parseValue())
      return error;
  for (uint64_t i = 0; i < numTensors && !truncated; ++i)
    if (Error error = parseTensor())
      return error;
  return truncated ? truncatedError() : placeTensors();
}

//===----------------------------------------------------------------------===//
// All files
//===----------------------------------------------------------------------===//

const GGUFTensor *GGUFReader::findTensor(StringRef name) const {
  auto it = byName.find(name);
  return it == byName.end() ? nullptr : &tensors[it->second];
}

static const GGUFValue *lookup(const StringMap<GGUFValue> &values,
                               StringRef key) {
  auto it = values.find(key);
  return it == values.end() ? nullptr : &it->second;
}

const GGUFValue *GGUFReader::findValue(StringRef key) const {
  return lookup(values, key);
}

/// An integer that a file of a split model has, and any other may lack.
static int64_t getInteger(const StringMap<GGUFValue> &values, StringRef key,
                          int64_t absent) {
  const GGUFValue *value = lookup(values, key);
  return value ? value->getInteger().value_or(-1) : absent;
}

Error GGUFReader::addFile(std::unique_ptr<MemoryBuffer> file) {
  StringRef path = file->getBufferIdentifier();
  GGUFParser parser(*file);
  if (Error error = parser.parse())
    return error;
  int64_t part = getInteger(parser.values, "split.no", 0);
  auto expected = int64_t(files.size());
  if (part != expected)
    return inputError(path,
                      "'split.no' is {0} where part {1} of a model was "
                      "expected; give the first part, whose name ends in "
                      "-00001-of-...gguf, and leave the names as they were",
                      part, expected);
  for (GGUFTensor &tensor : parser.tensors) {
    auto [it, inserted] = byName.try_emplace(tensor.name, tensors.size());
    if (!inserted)
      return inputError(path, "tensor '{0}' appears twice{1}", tensor.name,
                        tensors[it->second].path == path
                            ? ""
                            : ", first in " + tensors[it->second].path);
    tensors.push_back(std::move(tensor));
  }
  if (files.empty())
    values = std::move(parser.values);
  files.push_back(std::move(file));
  return Error::success();
}

/// Parts are called NAME-00001-of-00003.gguf.
Error GGUFReader::addOtherParts(StringRef firstPath, int64_t numParts) {
  auto suffix = [&](int64_t part) {
    return formatv("-{0,0+5}-of-{1,0+5}.gguf", part + 1, numParts).str();
  };
  StringRef stem = firstPath;
  if (!stem.consume_back(suffix(0)))
    return inputError(firstPath,
                      "is the first of {0} parts ('split.count'), so its name "
                      "must end in {1} for the others to be found",
                      numParts, suffix(0));
  for (int64_t part = 1; part < numParts; ++part) {
    Expected<std::unique_ptr<MemoryBuffer>> file =
        openInputFile((stem + suffix(part)).str());
    if (!file)
      return file.takeError();
    if (Error error = addFile(std::move(*file)))
      return error;
  }
  auto numTensors = int64_t(tensors.size());
  int64_t expected = getInteger(values, "split.tensors.count", numTensors);
  if (numTensors != expected)
    return inputError(firstPath,
                      "'split.tensors.count' is {0}, but all parts hold {1}; "
                      "download them again",
                      expected, numTensors);
  return Error::success();
}

Expected<GGUFReader> GGUFReader::open(StringRef path) {
  Expected<std::unique_ptr<MemoryBuffer>> file = openInputFile(path);
  if (!file)
    return file.takeError();
  GGUFReader reader;
  if (Error error = reader.addFile(std::move(*file)))
    return std::move(error);
  constexpr int64_t kMaxParts = 99'999; // five digits of a name
  int64_t numParts = getInteger(reader.values, "split.count", 1);
  if (numParts < 0 || numParts > kMaxParts)
    return inputError(path, "'split.count' must be a number of files, not {0}",
                      reader.findValue("split.count")->print());
  if (numParts > 1)
    if (Error error = reader.addOtherParts(path, numParts))
      return std::move(error);
  return reader;
}
