// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// NumPy's .npy files, as far as tests and dumps need them: little-endian f4,
// i4, i1 in C order.

#ifndef TERCET_COMPILER_REFERENCE_NPY_H
#define TERCET_COMPILER_REFERENCE_NPY_H

#include "compiler/Reference/ReferenceOps.h"

namespace tercet::reference {

/// T is float, int32_t or int8_t; a file of another element type is an error.
template <typename T> llvm::Expected<Array<T>> readNpy(const llvm::Twine &path);

llvm::Error writeNpy(llvm::StringRef path, const Floats &array);

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_NPY_H
