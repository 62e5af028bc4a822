// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The metadata of a .gguf file, read so that every complaint says which file
// and key it is about.

#ifndef TERCET_FRONTENDS_GGUF_GGUFMETADATA_H
#define TERCET_FRONTENDS_GGUF_GGUFMETADATA_H

#include "frontends/GGUF/GGUFReader.h"
#include "frontends/Support/InputError.h"

namespace tercet {

class GGUFMetadata {
public:
  GGUFMetadata(const GGUFReader &reader, llvm::StringRef path)
      : reader(reader), path(path) {}

  bool has(llvm::StringRef key) const { return reader.findValue(key); }

  /// Sets `out` if the file has the key; an error if its value is no such one.
  llvm::Error read(llvm::StringRef key, bool &out) const {
    return readAs(key, out, &GGUFValue::getBoolean, "true or false");
  }
  llvm::Error read(llvm::StringRef key, int64_t &out) const {
    return readAs(key, out, &GGUFValue::getInteger, "an integer");
  }
  llvm::Error read(llvm::StringRef key, double &out) const {
    return readAs(key, out, &GGUFValue::getNumber, "a number");
  }
  llvm::Error read(llvm::StringRef key, llvm::StringRef &out) const {
    return readAs(key, out, &GGUFValue::getString, "a string");
  }
  llvm::Error read(llvm::StringRef key, std::vector<int64_t> &out) const {
    return readAs(key, out, &GGUFValue::getIntegers, "an array of integers");
  }
  llvm::Error read(llvm::StringRef key, std::vector<double> &out) const {
    return readAs(key, out, &GGUFValue::getNumbers, "an array of numbers");
  }
  llvm::Error read(llvm::StringRef key,
                   std::vector<llvm::StringRef> &out) const {
    return readAs(key, out, &GGUFValue::getStrings, "an array of strings");
  }

  /// "PATH: 'KEY' MESSAGE", the message in the style of llvm::formatv.
  template <typename... Ts>
  std::string describe(llvm::StringRef key, const char *message,
                       Ts &&...args) const {
    return (path + ": '" + key + "' " +
            llvm::formatv(message, std::forward<Ts>(args)...))
        .str();
  }
  template <typename... Ts>
  llvm::Error error(llvm::StringRef key, const char *message,
                    Ts &&...args) const {
    return makeInputError(describe(key, message, std::forward<Ts>(args)...));
  }

private:
  template <typename T>
  llvm::Error readAs(llvm::StringRef key, T &out,
                     std::optional<T> (GGUFValue::*get)() const,
                     llvm::StringRef kind) const {
    const GGUFValue *value = reader.findValue(key);
    if (!value)
      return llvm::Error::success();
    std::optional<T> read = (value->*get)();
    if (!read)
      return error(key, "must be {0}, not {1}", kind, value->print());
    out = std::move(*read);
    return llvm::Error::success();
  }

  const GGUFReader &reader;
  std::string path;
};

} // namespace tercet

#endif // TERCET_FRONTENDS_GGUF_GGUFMETADATA_H
