// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Reference/Npy.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace tercet::reference;

static constexpr StringRef kMagic("\x93NUMPY", 6);

template <typename T> static constexpr StringRef kDescription = "";
template <> constexpr StringRef kDescription<float> = "<f4";
template <> constexpr StringRef kDescription<int32_t> = "<i4";
template <> constexpr StringRef kDescription<int8_t> = "|i1";

/// The text after `'key':` in the header, a Python dict.
static StringRef getField(StringRef header, StringRef key) {
  size_t at = header.find(("'" + key + "':").str());
  return at == StringRef::npos ? ""
                               : header.substr(at + key.size() + 3).ltrim();
}

/// "(2, 3)" or "(2,)".
static std::optional<SmallVector<int64_t>> parseShape(StringRef text) {
  if (!text.consume_front("("))
    return std::nullopt;
  SmallVector<int64_t> shape;
  for (text = text.ltrim(); !text.consume_front(")"); text = text.ltrim(" ,"))
    if (text.consumeInteger(10, shape.emplace_back()) || shape.back() < 0)
      return std::nullopt;
  return shape;
}

template <typename T>
Expected<Array<T>> tercet::reference::readNpy(const Twine &path) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false,
                                      /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createFileError(path, buffer.getError());
  StringRef file = (*buffer)->getBuffer();
  // Magic, version, header size (2 bytes in version 1, else 4), header, data.
  if (!file.starts_with(kMagic) || file.size() < 12)
    return createStringError(path + ": is no .npy file");
  bool isVersion1 = file[6] == 1;
  size_t headerSize = isVersion1 ? support::endian::read16le(&file.data()[8])
                                 : support::endian::read32le(&file.data()[8]);
  StringRef rest = file.drop_front(isVersion1 ? 10 : 12);
  StringRef header = rest.take_front(headerSize);
  StringRef data = rest.drop_front(header.size());

  auto shape = parseShape(getField(header, "shape"));
  std::string description = ("'" + kDescription<T> + "'").str();
  if (!shape || !getField(header, "descr").starts_with(description) ||
      !getField(header, "fortran_order").starts_with("False"))
    return createStringError(path + ": is no C-order array of " + description);
  Array<T> array{ArrayRef<int64_t>(*shape)};
  if (data.size() != array.data.size() * sizeof(T))
    return createStringError(path + ": has a wrong size for its shape");
  memcpy(array.data.data(), data.data(), data.size());
  return array;
}

template Expected<Floats> tercet::reference::readNpy<float>(const Twine &);
template Expected<Ints> tercet::reference::readNpy<int32_t>(const Twine &);
template Expected<Bytes> tercet::reference::readNpy<int8_t>(const Twine &);

Error tercet::reference::writeNpy(StringRef path, const Floats &array) {
  std::error_code error;
  raw_fd_ostream file(path, error);
  if (error)
    return createFileError(path, error);
  std::string shape;
  for (int64_t size : array.shape)
    shape += std::to_string(size) + ",";
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + "), }";
  // Data starts at a multiple of 64 bytes.
  header.resize(alignTo(10 + header.size() + 1, 64) - 10 - 1, ' ');
  header += '\n';
  file << kMagic << '\1' << '\0' << char(header.size() & 0xff)
       << char(header.size() >> 8) << header;
  file.write(reinterpret_cast<const char *>(array.data.data()),
             array.data.size() * sizeof(float));
  file.close();
  return file.has_error() ? createFileError(path, file.error())
                          : Error::success();
}
