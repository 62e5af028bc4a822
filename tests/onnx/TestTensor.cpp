// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/onnx/TestTensor.h"

#include "frontends/ONNX/ExternalData.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::test;
namespace proto = tercet::onnx::proto;

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// Bits of an element as files have them; 0: no number.
static unsigned getWidth(uint32_t element) {
  switch (element) {
  case TERCET_ELEMENT_UI2:
  case TERCET_ELEMENT_I2:
    return 2;
  case TERCET_ELEMENT_UI4:
  case TERCET_ELEMENT_I4:
  case TERCET_ELEMENT_F4E2M1FN:
    return 4;
  case TERCET_ELEMENT_BOOL:
  case TERCET_ELEMENT_UI8:
  case TERCET_ELEMENT_I8:
  case TERCET_ELEMENT_F8E4M3FN:
  case TERCET_ELEMENT_F8E4M3FNUZ:
  case TERCET_ELEMENT_F8E5M2:
  case TERCET_ELEMENT_F8E5M2FNUZ:
  case TERCET_ELEMENT_F8E8M0FNU:
    return 8;
  case TERCET_ELEMENT_UI16:
  case TERCET_ELEMENT_I16:
  case TERCET_ELEMENT_F16:
  case TERCET_ELEMENT_BF16:
    return 16;
  case TERCET_ELEMENT_F32:
  case TERCET_ELEMENT_I32:
  case TERCET_ELEMENT_UI32:
    return 32;
  case TERCET_ELEMENT_F64:
  case TERCET_ELEMENT_I64:
  case TERCET_ELEMENT_UI64:
    return 64;
  default:
    return 0;
  }
}

static bool isSigned(uint32_t element) {
  return element == TERCET_ELEMENT_I4 || element == TERCET_ELEMENT_I2;
}

/// Elements below a byte are packed, the first in the low bits.
static std::vector<char> unpackNarrow(StringRef packed, size_t count,
                                      unsigned width, bool isSigned) {
  std::vector<char> bytes;
  for (size_t i = 0; i < count; ++i) {
    size_t bit = i * width;
    uint64_t value = static_cast<uint8_t>(packed[bit / 8]) >> bit % 8;
    value &= maskTrailingOnes<uint64_t>(width);
    bytes.push_back(isSigned ? SignExtend64(value, width) : value);
  }
  return bytes;
}

/// The fields of their types: each entry is cut to the width of an element.
static std::string getTypedData(const proto::TensorProto &tensor,
                                unsigned width) {
  std::string bytes;
  auto append = [&](const auto &values, unsigned entryWidth) {
    for (auto value : values)
      bytes.append(reinterpret_cast<const char *>(&value), entryWidth / 8);
  };
  append(tensor.float_data(), 32);
  append(tensor.double_data(), 64);
  append(tensor.int32_data(), std::max(width, 8u));
  append(tensor.int64_data(), 64);
  append(tensor.uint64_data(), width);
  return bytes;
}

Expected<TestTensor> test::readTensor(StringRef path) {
  auto file = MemoryBuffer::getFile(path);
  if (!file)
    return createFileError(path, file.getError());
  proto::TensorProto tensor;
  if (!tensor.ParseFromArray((*file)->getBufferStart(),
                             (*file)->getBufferSize()) ||
      getWidth(tensor.data_type()) == 0)
    return createStringError("test data is no tensor of numbers");
  TestTensor result;
  result.element = tensor.data_type();
  size_t count = 1;
  for (int64_t extent : tensor.dims()) {
    result.value.shape.push_back(extent);
    count *= extent;
  }
  unsigned width = getWidth(result.element);
  std::string bytes =
      tensor.has_raw_data() ? tensor.raw_data() : getTypedData(tensor, width);
  if (bytes.size() != divideCeil(count * width, 8))
    return createStringError("test data has a wrong size");
  result.value.bytes =
      width < 8 ? unpackNarrow(bytes, count, width, isSigned(result.element))
                : std::vector<char>(bytes.begin(), bytes.end());
  return result;
}

//===----------------------------------------------------------------------===//
// Comparing
//===----------------------------------------------------------------------===//

namespace {
struct FloatFormat {
  const fltSemantics *semantics;
  double relative; ///< Two units in the last place, but 1e-3 at least.
};
} // namespace

static std::optional<FloatFormat> getFormat(uint32_t element) {
  switch (element) {
  case TERCET_ELEMENT_F32:
    return {{&APFloat::IEEEsingle(), 1e-3}};
  case TERCET_ELEMENT_F64:
    return {{&APFloat::IEEEdouble(), 1e-3}};
  case TERCET_ELEMENT_F16:
    return {{&APFloat::IEEEhalf(), 2e-3}};
  case TERCET_ELEMENT_BF16:
    return {{&APFloat::BFloat(), 1.0 / 64}};
  case TERCET_ELEMENT_F8E4M3FN:
    return {{&APFloat::Float8E4M3FN(), 1.0 / 4}};
  case TERCET_ELEMENT_F8E4M3FNUZ:
    return {{&APFloat::Float8E4M3FNUZ(), 1.0 / 4}};
  case TERCET_ELEMENT_F8E5M2:
    return {{&APFloat::Float8E5M2(), 1.0 / 2}};
  case TERCET_ELEMENT_F8E5M2FNUZ:
    return {{&APFloat::Float8E5M2FNUZ(), 1.0 / 2}};
  default:
    return std::nullopt;
  }
}

static double toDouble(const fltSemantics &semantics, const char *bytes,
                       unsigned size) {
  uint64_t bits = 0;
  memcpy(&bits, bytes, size);
  APFloat value(semantics, APInt(size * 8, bits));
  bool losesInfo;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                &losesInfo);
  return value.convertToDouble();
}

static bool isNear(double expected, double computed, double relative) {
  if (std::isnan(expected) || std::isnan(computed))
    return std::isnan(expected) && std::isnan(computed);
  if (std::isinf(expected) || std::isinf(computed))
    return expected == computed;
  return std::abs(expected - computed) <= 1e-5 + relative * std::abs(expected);
}

static std::string describe(const TestTensor &tensor) {
  std::string text;
  raw_string_ostream(text) << "type " << tensor.element << ", shape ["
                           << join(map_range(tensor.value.shape,
                                             [](int64_t n) {
                                               return std::to_string(n);
                                             }),
                                   ", ")
                           << "]";
  return text;
}

Error test::compareTensors(const TestTensor &expected,
                           const TestTensor &computed) {
  if (expected.element != computed.element ||
      expected.value.shape != computed.value.shape)
    return createStringError("expected " + describe(expected) + ", computed " +
                             describe(computed));
  const std::vector<char> &left = expected.value.bytes,
                          &right = computed.value.bytes;
  auto format = getFormat(expected.element);
  unsigned size = std::max(getWidth(expected.element) / 8, 1u);
  for (size_t at = 0; at < left.size(); at += size) {
    if (!memcmp(&left[at], &right[at], size))
      continue;
    if (!format)
      return createStringError("element %zu differs", at / size);
    double wanted = toDouble(*format->semantics, &left[at], size);
    double got = toDouble(*format->semantics, &right[at], size);
    if (!isNear(wanted, got, format->relative))
      return createStringError("element %zu: expected %.9g, computed %.9g",
                               at / size, wanted, got);
  }
  return Error::success();
}
