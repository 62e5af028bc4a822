// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bytes of tensors that an ONNX model keeps in other files. The names of those
// files come from the model, which may be hostile: a file must lie in or under
// the model's directory, reached through no symbolic link, and have no other
// name.

#ifndef TERCET_FRONTENDS_ONNX_EXTERNALDATA_H
#define TERCET_FRONTENDS_ONNX_EXTERNALDATA_H

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"
#include <onnx/onnx_pb.h>

namespace tercet::onnx {

/// libonnx, whose namespace has the name of ours.
namespace proto = ::onnx;

/// Bytes, and the buffer that owns them: none if the message itself does.
struct TensorBytes {
  llvm::StringRef bytes;
  std::shared_ptr<llvm::MemoryBuffer> owner;
};

class ExternalData {
public:
  explicit ExternalData(llvm::StringRef directory) : directory(directory) {}

  /// The `size` bytes of `tensor`; `where` names it in errors.
  llvm::Expected<TensorBytes> read(const proto::TensorProto &tensor,
                                   uint64_t size, llvm::StringRef where);

private:
  llvm::Expected<std::shared_ptr<llvm::MemoryBuffer>>
  open(llvm::StringRef location, llvm::StringRef where);

  std::string directory;
  llvm::StringMap<std::shared_ptr<llvm::MemoryBuffer>> files;
};

} // namespace tercet::onnx

#endif // TERCET_FRONTENDS_ONNX_EXTERNALDATA_H
