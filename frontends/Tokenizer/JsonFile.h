// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// JSON files of a model directory, read so that every complaint says which
// file and field it is about.

#ifndef TERCET_FRONTENDS_TOKENIZER_JSONFILE_H
#define TERCET_FRONTENDS_TOKENIZER_JSONFILE_H

#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace tercet {

/// The text of a file, or nothing if it does not exist.
llvm::Expected<std::optional<std::string>>
readOptionalFile(llvm::StringRef path);

/// A value in a JSON file and its path there, such as "model.merges[3]".
class JsonField {
public:
  JsonField(std::string file, const nlohmann::json *value,
            std::string path = "")
      : file(std::move(file)), path(std::move(path)), value(value) {}

  /// A member, absent if this is not an object that has it.
  JsonField operator[](llvm::StringRef key) const;
  JsonField operator[](size_t index) const;

  /// Neither missing nor null.
  explicit operator bool() const { return value && !value->is_null(); }
  const nlohmann::json &json() const { return *value; }
  size_t size() const { return *this ? value->size() : 0; }

  /// Sets `out` if the field is present; an error if it has another type.
  llvm::Error read(bool &out) const;
  llvm::Error read(int64_t &out) const;
  llvm::Error read(double &out) const;
  llvm::Error read(std::string &out) const;
  llvm::Error expectObject() const;
  llvm::Error expectArray() const;

  /// "FILE: PATH MESSAGE".
  llvm::Error error(const llvm::Twine &message) const;

private:
  std::string file, path;
  const nlohmann::json *value; // null: absent
};

/// A parsed file. A missing one gives an absent root.
class JsonFile {
public:
  static llvm::Expected<JsonFile> read(llvm::StringRef directory,
                                       llvm::StringRef name);

  JsonField root() const { return {name, value ? &*value : nullptr}; }

private:
  std::string name;
  std::optional<nlohmann::json> value;
};

} // namespace tercet

#endif // TERCET_FRONTENDS_TOKENIZER_JSONFILE_H
