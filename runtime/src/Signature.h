// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a graph takes and gives: the section of tercet_signature, checked.

#ifndef TERCET_RUNTIME_SIGNATURE_H
#define TERCET_RUNTIME_SIGNATURE_H

#include "runtime/src/Error.h"
#include "tercet/artifact.h"

#include <span>
#include <string_view>

namespace tercet {

struct ElementType {
  tercet_element element;
  const char *name;
  const char *npyDescr; ///< NumPy's name of the type that stands for it.
  uint32_t size;        ///< of one element in memory, in bytes
  /// Whether some values of its byte are no element; the least and greatest
  /// that are, of the byte as a signed one.
  bool isNarrow;
  int16_t least, greatest;
};

/// Null for a number that is no element type.
const ElementType *findElementType(uint32_t element);

/// Copyable: it only points at the bytes it was opened on.
class Signature {
public:
  using Tensor = tercet_signature_tensor;

  static Error open(std::string_view section, Signature &result);

  std::span<const Tensor> inputs() const { return {tensors, head->num_inputs}; }
  std::span<const Tensor> outputs() const {
    return {tensors + head->num_inputs, head->num_outputs};
  }
  const char *name(const Tensor &tensor) const {
    return section.data() + tensor.name;
  }
  /// The symbol of an extent below 0; "" where it has none.
  const char *symbol(int64_t extent) const {
    return section.data() + (-1 - extent);
  }
  /// "f32[batch, 784]"; an extent without a name is "?".
  std::string describe(const Tensor &tensor) const;

private:
  bool isString(uint64_t at) const;

  std::string_view section;
  const tercet_signature *head = nullptr;
  const Tensor *tensors = nullptr;
};

/// "f32[1, 784]".
std::string describeShape(const Signature::Tensor &tensor,
                          const int64_t *shape);

/// Bytes of a tensor of that shape, or false when they are more than an
/// int64_t, or an extent is below 0.
bool sizeInBytes(const Signature::Tensor &tensor, const int64_t *shape,
                 int64_t &size);

} // namespace tercet

#endif // TERCET_RUNTIME_SIGNATURE_H
