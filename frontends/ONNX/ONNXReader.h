// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An .onnx file as a protobuf message whose large initializers stay where they
// are: mapped, in the file itself or in the files of external data beside it.

#ifndef TERCET_FRONTENDS_ONNX_ONNXREADER_H
#define TERCET_FRONTENDS_ONNX_ONNXREADER_H

#include "frontends/ONNX/ExternalData.h"

#include "llvm/ADT/DenseMap.h"

namespace tercet::onnx {

/// Versions of the operator set of each domain; "" is ONNX itself.
using OpsetVersions = llvm::StringMap<int64_t>;

class ONNXReader {
public:
  /// Maps and parses a file.
  static llvm::Expected<ONNXReader> open(llvm::StringRef path);

  /// The same for bytes; external data is looked up beside the buffer's name.
  static llvm::Expected<ONNXReader>
  parse(std::shared_ptr<llvm::MemoryBuffer> file);

  llvm::StringRef getPath() const { return file->getBufferIdentifier(); }
  const proto::ModelProto &getModel() const { return *model; }
  const OpsetVersions &getOpsetVersions() const { return opsetVersions; }

  /// The little-endian bytes of a tensor of the model, or nothing if its
  /// elements are in a field of their type. External data has `size` bytes.
  llvm::Expected<std::optional<TensorBytes>>
  getBytes(const proto::TensorProto &tensor, uint64_t size);

private:
  explicit ONNXReader(std::shared_ptr<llvm::MemoryBuffer> file);

  llvm::Error parseModel();
  bool parseGraph(llvm::StringRef bytes);
  bool parseInitializer(llvm::StringRef bytes);
  llvm::Error checkVersions();

  std::shared_ptr<llvm::MemoryBuffer> file;
  std::unique_ptr<proto::ModelProto> model;
  llvm::DenseMap<const proto::TensorProto *, llvm::StringRef> mappedData;
  OpsetVersions opsetVersions;
  ExternalData externalData;
};

/// "ai.onnx" is the long name of "".
llvm::StringRef normalizeDomain(llvm::StringRef domain);

/// Adds the versions that a model or a function imports.
llvm::Error addOpsetVersions(
    const google::protobuf::RepeatedPtrField<proto::OperatorSetIdProto>
        &imports,
    llvm::StringRef where, OpsetVersions &versions);

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_ONNXREADER_H
