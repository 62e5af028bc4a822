// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A .gguf file, or all files of a split one, as metadata and a table of byte
// ranges. A file is
//
//   "GGUF" | u32 version | u64 tensors | u64 values
//   values:  string key, u32 type, value
//   tensors: string name, u32 rank, u64 dimensions, u32 ggml type, u64 offset
//   data, from the next multiple of general.alignment on; offsets count from it
//
// all little-endian, a string being a u64 length and as many bytes. Nothing of
// it is believed before it is checked: once open() succeeds every value is
// whole, every tensor lies inside its file, has the size its type and shape
// need, and no two tensors share a byte.

#ifndef TERCET_FRONTENDS_GGUF_GGUFREADER_H
#define TERCET_FRONTENDS_GGUF_GGUFREADER_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"
#include <optional>

namespace tercet {

/// Types of metadata, numbered as files number them.
enum class GGUFType : uint32_t {
  U8,
  I8,
  U16,
  I16,
  U32,
  I32,
  F32,
  Bool,
  String,
  Array,
  U64,
  I64,
  F64
};

/// A view of one value of the metadata. Accessors return nothing when it is of
/// another kind; integers and numbers may have any width.
class GGUFValue {
public:
  std::optional<int64_t> getInteger() const;
  std::optional<double> getNumber() const;
  std::optional<bool> getBoolean() const;
  std::optional<llvm::StringRef> getString() const;
  std::optional<std::vector<int64_t>> getIntegers() const;
  std::optional<std::vector<double>> getNumbers() const;
  std::optional<std::vector<llvm::StringRef>> getStrings() const;

  /// For messages: "7", "'silu'", "an array of 3 values".
  std::string print() const;

private:
  friend class GGUFParser;

  bool isArray = false;
  GGUFType type;                 ///< of the value, or of the array's elements
  uint64_t count = 1;            ///< elements of an array
  llvm::ArrayRef<uint8_t> bytes; ///< of all elements, strings with their length
};

/// A type of tensor elements: blocks of consecutive elements of a row.
struct GGMLType {
  uint32_t id;
  llvm::StringLiteral name;
  uint32_t blockSize, blockBytes;
  uint32_t rowBytes = 0;  ///< in front of each row's blocks
  uint32_t tailBytes = 0; ///< behind the tensor's last block

  /// Null when no such type is known.
  static const GGMLType *find(uint32_t id);
};

struct GGUFTensor {
  llvm::StringRef name;
  const GGMLType *type;
  llvm::SmallVector<int64_t, 2> shape; ///< outermost first: [out, in]
  llvm::StringRef path;                // of its file, owned by the reader
  uint64_t offset;                     // in the file
  llvm::ArrayRef<uint8_t> bytes;
};

class GGUFReader {
public:
  /// Opens a .gguf file; of a split model its first, which finds the others
  /// beside it.
  static llvm::Expected<GGUFReader> open(llvm::StringRef path);

  /// Parses the next file's bytes; what open() does to each of its files.
  llvm::Error addFile(std::unique_ptr<llvm::MemoryBuffer> file);

  /// All tensors, by file, then by offset.
  llvm::ArrayRef<GGUFTensor> getTensors() const { return tensors; }
  const GGUFTensor *findTensor(llvm::StringRef name) const;

  /// A value of the first file's metadata, null when there is none of that key.
  const GGUFValue *findValue(llvm::StringRef key) const;

private:
  llvm::Error addOtherParts(llvm::StringRef firstPath, int64_t numParts);

  std::vector<std::unique_ptr<llvm::MemoryBuffer>> files;
  llvm::StringMap<GGUFValue> values;
  std::vector<GGUFTensor> tensors;
  llvm::StringMap<size_t> byName;
};

} // namespace tercet

#endif // TERCET_FRONTENDS_GGUF_GGUFREADER_H
