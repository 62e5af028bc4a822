// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Npy.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <unistd.h>

using namespace tercet;

// Magic, version 1.0; then the length of the header in two bytes.
static constexpr std::string_view Magic("\x93NUMPY", 6);
static constexpr std::string_view Version1("\x01\x00", 2);

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Error NpyWriter::open(const std::string &path, std::string_view descr,
                      std::span<const int64_t> shape) {
  if (Error error = file.open(path))
    return error;
  std::string tuple;
  for (int64_t extent : shape)
    tuple += (tuple.empty() ? "" : ", ") + std::to_string(extent);
  if (shape.size() == 1)
    tuple += ',';
  std::string dict = "{'descr': '" + std::string(descr) +
                     "', 'fortran_order': False, 'shape': (" + tuple + "), }";
  // Data starts at a multiple of 64; the header ends with a newline.
  size_t start = (Magic.size() + 4 + dict.size() + 1 + 63) & ~size_t(63);
  size_t length = start - Magic.size() - 4;
  dict.resize(length - 1, ' ');
  std::string header(Magic);
  header += Version1;
  header += static_cast<char>(length & 0xff);
  header += static_cast<char>(length >> 8);
  header += dict + '\n';
  return file.write(header.data(), header.size());
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

namespace {
/// An open file that reports failures under its name.
class InputFile {
public:
  ~InputFile() {
    if (file > STDIN_FILENO)
      close(file);
  }

  Error open(const std::string &path) {
    name = path == "-" ? "stdin" : path;
    file =
        path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    return file < 0 ? errnoError("read " + name) : Error::success();
  }

  /// All of [to, to + size).
  Error read(void *to, uint64_t size) {
    for (auto *bytes = static_cast<char *>(to); size;) {
      ssize_t got = ::read(file, bytes, size);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return errnoError("read " + name);
      if (got == 0)
        return Error(name + ": ends too early");
      bytes += got;
      size -= got;
    }
    return Error::success();
  }

  bool atEnd() {
    char byte;
    return ::read(file, &byte, 1) == 0;
  }

  std::string name;

private:
  int file = -1;
};
} // namespace

/// The text after `'key':` in the header, a Python dict.
static std::string_view getField(std::string_view header, const char *key) {
  std::string quoted = std::string("'") + key + "':";
  size_t at = header.find(quoted);
  if (at == std::string_view::npos)
    return {};
  header.remove_prefix(at + quoted.size());
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

/// "(2, 3)", "(2,)" or "()".
static std::optional<std::vector<int64_t>> parseShape(std::string_view text) {
  if (!text.starts_with('('))
    return std::nullopt;
  std::vector<int64_t> shape;
  for (size_t at = 1;;) {
    at = text.find_first_not_of(", ", at);
    if (at == std::string_view::npos)
      return std::nullopt;
    if (text[at] == ')')
      return shape;
    const char *end = text.data() + text.size();
    auto [next, code] =
        std::from_chars(text.data() + at, end, shape.emplace_back());
    if (code != std::errc() || shape.back() < 0)
      return std::nullopt;
    at = next - text.data();
  }
}

static Error readHeader(InputFile &file, std::string &header) {
  char start[10];
  if (Error error = file.read(start, sizeof start))
    return error;
  if (std::string_view(start, Magic.size()) != Magic)
    return Error(file.name + ": is no .npy file");
  auto byte = [](char c) { return static_cast<unsigned char>(c); };
  uint32_t length = byte(start[8]) | byte(start[9]) << 8;
  if (start[6] != 1) { // From version 2 on it has four bytes.
    char high[2];
    if (Error error = file.read(high, sizeof high))
      return error;
    length |= byte(high[0]) << 16 | uint32_t(byte(high[1])) << 24;
  }
  constexpr uint32_t Limit = 1 << 20;
  if (length > Limit)
    return Error(file.name + ": is no .npy file");
  header.resize(length);
  return file.read(header.data(), length);
}

Error tercet::readNpy(const std::string &path, NpyArray &result) {
  InputFile file;
  if (Error error = file.open(path))
    return error;
  std::string header;
  if (Error error = readHeader(file, header))
    return error;
  std::string_view descr = getField(header, "descr");
  auto shape = parseShape(getField(header, "shape"));
  if (!shape || descr.size() < 4 || descr[0] != '\'')
    return Error(file.name + ": is an array of records or damaged");
  result.descr = descr.substr(1, descr.find('\'', 1) - 1);
  result.shape = *shape;
  if (result.descr[0] == '>')
    return Error(file.name + ": is big-endian: save x.astype(x.dtype."
                             "newbyteorder('<')) instead");
  if (!getField(header, "fortran_order").starts_with("False"))
    return Error(file.name + ": is in Fortran order: save "
                             "numpy.ascontiguousarray(x) instead");
  // "<f4"; objects, dates and text have other letters.
  bool isNumber = result.descr.size() == 3 && strchr("biuf", result.descr[1]);
  uint64_t size = isNumber ? result.descr[2] - '0' : 0;
  if (size - 1 >= 8)
    return Error(file.name + ": elements of type '" + result.descr +
                 "' are not supported");
  for (int64_t extent : result.shape)
    if (__builtin_mul_overflow(size, extent, &size))
      return Error(file.name + ": shape out of range");
  result.data = PageMemory(size);
  if (!result.data.data())
    return errnoError("allocate memory for " + file.name);
  if (Error error = file.read(result.data.data(), size))
    return error;
  if (!file.atEnd())
    return Error(file.name + ": is longer than its shape says");
  return Error::success();
}
