// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The functions that a model brings along, and what a call of one stands for.

#ifndef TERCET_FRONTENDS_ONNX_FUNCTIONS_H
#define TERCET_FRONTENDS_ONNX_FUNCTIONS_H

#include "frontends/ONNX/ONNXReader.h"

namespace tercet::onnx {

using Nodes = google::protobuf::RepeatedPtrField<proto::NodeProto>;

struct Function {
  const proto::FunctionProto *proto;
  OpsetVersions opsetVersions;
  /// Values of attributes that a call may leave out.
  std::vector<proto::AttributeProto> defaults;
};

class FunctionTable {
public:
  static llvm::Expected<FunctionTable> create(const ONNXReader &reader);

  /// The function that a node calls, or null: it is an operator's.
  const Function *find(const proto::NodeProto &node) const;

private:
  llvm::StringMap<Function> functions;
};

/// The body of a function, its references to attributes replaced by those of
/// the call, or left out where the call has none.
Nodes instantiate(const Function &function, const proto::NodeProto &call);

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_FUNCTIONS_H
