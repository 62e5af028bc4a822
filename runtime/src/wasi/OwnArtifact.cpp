// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The blob is the custom section ".tercet" of the module, which no engine gives
// to the code: it is read from the module's file, argv[0] or what the launcher
// says.

#include "runtime/src/Artifact.h"
#include "runtime/src/Memory.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <unistd.h>
#include <vector>
#include <wasi/api.h>

using namespace tercet;

namespace {
struct CloseFile {
  void operator()(FILE *file) const { fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;
} // namespace

static std::string modulePath() {
  if (const char *path = getenv("TERCET_MODULE"))
    return path;
  __wasi_size_t count = 0, size = 0;
  if (__wasi_args_sizes_get(&count, &size) || count == 0)
    return {};
  std::vector<uint8_t *> arguments(count);
  std::vector<uint8_t> text(size);
  if (__wasi_args_get(arguments.data(), text.data()))
    return {};
  return reinterpret_cast<const char *>(arguments[0]);
}

/// LEB128, as all numbers of the format.
static uint32_t readNumber(FILE *file) {
  uint32_t value = 0;
  for (int shift = 0, byte = 0x80; byte & 0x80 && shift < 32; shift += 7) {
    byte = getc(file);
    value |= uint32_t(byte & 0x7f) << shift;
  }
  return value;
}

/// Goes to the contents of the section; returns their size, 0 if there is none.
static uint64_t findBlob(FILE *file) {
  constexpr long ModuleHeader = 8;
  constexpr std::string_view Name = ".tercet";
  fseeko(file, ModuleHeader, SEEK_SET);
  for (int kind; (kind = getc(file)) != EOF;) {
    uint32_t size = readNumber(file);
    off_t end = ftello(file) + off_t(size);
    if (kind == 0 && readNumber(file) == Name.size()) {
      char name[Name.size()];
      if (fread(name, Name.size(), 1, file) == 1 &&
          std::string_view(name, Name.size()) == Name)
        return end - ftello(file);
    }
    fseeko(file, end, SEEK_SET);
  }
  return 0;
}

Error Artifact::openOwn(Artifact &result) {
  static PageMemory blob; // As long as a mapped one would be.
  // Names of files are relative to where the user is, as the launcher says.
  if (const char *directory = getenv("PWD"))
    (void)!chdir(directory);
  std::string path = modulePath();
  File file(fopen(path.c_str(), "rb"));
  if (!file)
    return errnoError("read the model from " + path);
  uint64_t size = findBlob(file.get());
  blob = PageMemory(size);
  if (!blob.data())
    return errnoError("allocate memory for the model");
  uint64_t available = fread(blob.data(), 1, size, file.get());
  return open(blob.data(), available, result);
}
