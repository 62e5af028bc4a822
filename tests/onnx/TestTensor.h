// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tensors of ONNX's test data: TensorProto files, and how far a result may be
// from them.

#ifndef TERCET_TESTS_ONNX_TESTTENSOR_H
#define TERCET_TESTS_ONNX_TESTTENSOR_H

#include "compiler/JIT/GraphJIT.h"

namespace tercet::test {

struct TestTensor {
  uint32_t element = 0; ///< TensorProto.DataType
  HostTensor value;
};

/// Fails for what is no tensor of numbers: sequences, optionals, strings.
llvm::Expected<TestTensor> readTensor(llvm::StringRef path);

/// As ONNX's own runner compares: floats within a tolerance, others exactly.
llvm::Error compareTensors(const TestTensor &expected,
                           const TestTensor &computed);

} // namespace tercet::test

#endif // TERCET_TESTS_ONNX_TESTTENSOR_H
