// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A checkpoint of safetensors files as a table of byte ranges. A file is
//
//   u64 little-endian N | N bytes of JSON: name -> dtype, shape, offsets | data
//
// Nothing of it is believed before it is checked: once open() succeeds every
// tensor lies inside its file, has the size its dtype and shape need, and no
// two tensors share a byte.

#ifndef TERCET_FRONTENDS_SAFETENSORS_SAFETENSORSREADER_H
#define TERCET_FRONTENDS_SAFETENSORS_SAFETENSORSREADER_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

namespace tercet {

struct Tensor {
  std::string name;
  std::string dtype; // as the format spells it: "BF16", "U8", ...
  llvm::SmallVector<int64_t, 2> shape;
  llvm::StringRef path; // of its file, owned by the checkpoint
  uint64_t offset;      // in the file; any alignment (headers have any length)
  llvm::ArrayRef<uint8_t> bytes;
};

class SafetensorsReader {
public:
  /// Opens a .safetensors file, or a directory that holds model.safetensors or
  /// the shards named by model.safetensors.index.json.
  static llvm::Expected<SafetensorsReader> open(llvm::StringRef path);

  /// Parses one file's bytes; what open() does to each of its files.
  llvm::Error addFile(std::unique_ptr<llvm::MemoryBuffer> file);

  /// All tensors, by file, then by offset.
  llvm::ArrayRef<Tensor> getTensors() const { return tensors; }
  const Tensor *find(llvm::StringRef name) const;

private:
  llvm::Error addShards(llvm::StringRef directory, llvm::StringRef indexPath);

  std::vector<std::unique_ptr<llvm::MemoryBuffer>> files;
  std::vector<Tensor> tensors;
  llvm::StringMap<size_t> byName;
};

} // namespace tercet

#endif // TERCET_FRONTENDS_SAFETENSORS_SAFETENSORSREADER_H
