// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Signature.h"

#include <cstring>

using namespace tercet;

static constexpr ElementType ElementTypes[] = {
    {TERCET_ELEMENT_F32, "f32", "<f4", 4},
    {TERCET_ELEMENT_UI8, "ui8", "|u1", 1},
    {TERCET_ELEMENT_I8, "i8", "|i1", 1},
    {TERCET_ELEMENT_UI16, "ui16", "<u2", 2},
    {TERCET_ELEMENT_I16, "i16", "<i2", 2},
    {TERCET_ELEMENT_I32, "i32", "<i4", 4},
    {TERCET_ELEMENT_I64, "i64", "<i8", 8},
    {TERCET_ELEMENT_BOOL, "bool", "|b1", 1, true, 0, 1},
    {TERCET_ELEMENT_F16, "f16", "<f2", 2},
    {TERCET_ELEMENT_F64, "f64", "<f8", 8},
    {TERCET_ELEMENT_UI32, "ui32", "<u4", 4},
    {TERCET_ELEMENT_UI64, "ui64", "<u8", 8},
    {TERCET_ELEMENT_BF16, "bf16", "<u2", 2},
    {TERCET_ELEMENT_F8E4M3FN, "f8E4M3FN", "|u1", 1},
    {TERCET_ELEMENT_F8E4M3FNUZ, "f8E4M3FNUZ", "|u1", 1},
    {TERCET_ELEMENT_F8E5M2, "f8E5M2", "|u1", 1},
    {TERCET_ELEMENT_F8E5M2FNUZ, "f8E5M2FNUZ", "|u1", 1},
    {TERCET_ELEMENT_UI4, "ui4", "|u1", 1, true, 0, 15},
    {TERCET_ELEMENT_I4, "i4", "|i1", 1, true, -8, 7},
    {TERCET_ELEMENT_F4E2M1FN, "f4E2M1FN", "|u1", 1, true, 0, 15},
    {TERCET_ELEMENT_F8E8M0FNU, "f8E8M0FNU", "|u1", 1},
    {TERCET_ELEMENT_UI2, "ui2", "|u1", 1, true, 0, 3},
    {TERCET_ELEMENT_I2, "i2", "|i1", 1, true, -2, 1},
};

const ElementType *tercet::findElementType(uint32_t element) {
  for (const ElementType &type : ElementTypes)
    if (type.element == element)
      return &type;
  return nullptr;
}

bool Signature::isString(uint64_t at) const {
  return at < section.size() &&
         memchr(section.data() + at, 0, section.size() - at);
}

Error Signature::open(std::string_view section, Signature &result) {
  Error damaged("this artifact is damaged (signature out of range): copy or "
                "compile it again");
  Signature signature;
  signature.section = section;
  signature.head = reinterpret_cast<const tercet_signature *>(section.data());
  signature.tensors = reinterpret_cast<const Tensor *>(signature.head + 1);
  if (section.size() < sizeof *signature.head)
    return damaged;
  uint64_t numTensors =
      uint64_t(signature.head->num_inputs) + signature.head->num_outputs;
  if (numTensors > (section.size() - sizeof *signature.head) / sizeof(Tensor))
    return damaged;
  for (const Tensor &tensor : std::span(signature.tensors, numTensors)) {
    if (!signature.isString(tensor.name) || !findElementType(tensor.element) ||
        tensor.rank > TERCET_MAX_RANK)
      return damaged;
    for (int64_t extent : std::span(tensor.dims, tensor.rank))
      if (extent < 0 && !signature.isString(-1 - extent))
        return damaged;
  }
  result = signature;
  return Error::success();
}

template <typename Extent>
static std::string describe(const Signature::Tensor &tensor, Extent extent) {
  std::string text = findElementType(tensor.element)->name;
  text += '[';
  for (uint32_t i = 0; i < tensor.rank; ++i)
    text += (i ? ", " : "") + extent(i);
  return text + ']';
}

std::string Signature::describe(const Tensor &tensor) const {
  return ::describe(tensor, [&](uint32_t i) -> std::string {
    int64_t extent = tensor.dims[i];
    if (extent >= 0)
      return std::to_string(extent);
    return *symbol(extent) ? symbol(extent) : "?";
  });
}

std::string tercet::describeShape(const Signature::Tensor &tensor,
                                  const int64_t *shape) {
  return ::describe(tensor,
                    [&](uint32_t i) { return std::to_string(shape[i]); });
}

bool tercet::sizeInBytes(const Signature::Tensor &tensor, const int64_t *shape,
                         int64_t &size) {
  size = findElementType(tensor.element)->size;
  bool isEmpty = false, fits = true;
  for (uint32_t i = 0; i < tensor.rank; ++i) {
    if (shape[i] < 0)
      return false;
    isEmpty |= shape[i] == 0;
    fits &= !__builtin_mul_overflow(size, shape[i], &size);
  }
  if (isEmpty)
    size = 0;
  return isEmpty || fits;
}
