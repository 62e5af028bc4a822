// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Tokenizer/JsonFile.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

using namespace tercet;
using llvm::StringRef;
using nlohmann::json;

llvm::Expected<std::optional<std::string>>
tercet::readOptionalFile(StringRef path) {
  if (!llvm::sys::fs::exists(path))
    return std::nullopt;
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return llvm::createStringError(buffer.getError(),
                                   "cannot read " + path + ": " +
                                       buffer.getError().message());
  return (*buffer)->getBuffer().str();
}

JsonField JsonField::operator[](StringRef key) const {
  std::string place = path.empty() ? key.str() : path + "." + key.str();
  if (!value || !value->is_object())
    return {file, nullptr, place};
  auto member = value->find(key.str());
  return {file, member == value->end() ? nullptr : &*member, place};
}

JsonField JsonField::operator[](size_t index) const {
  return {file, value && index < value->size() ? &(*value)[index] : nullptr,
          path + "[" + std::to_string(index) + "]"};
}

llvm::Error JsonField::error(const llvm::Twine &message) const {
  return llvm::createStringError(file + ": " + path +
                                 (path.empty() ? "" : " ") + message);
}

llvm::Error JsonField::read(bool &out) const {
  if (*this && !value->is_boolean())
    return error("is not true or false");
  if (*this)
    out = value->get<bool>();
  return llvm::Error::success();
}

llvm::Error JsonField::read(int64_t &out) const {
  if (*this && !value->is_number_integer())
    return error("is not an integer");
  if (*this)
    out = value->get<int64_t>();
  return llvm::Error::success();
}

llvm::Error JsonField::read(double &out) const {
  if (*this && !value->is_number())
    return error("is not a number");
  if (*this)
    out = value->get<double>();
  return llvm::Error::success();
}

llvm::Error JsonField::read(std::string &out) const {
  if (*this && !value->is_string())
    return error("is not a string");
  if (*this)
    out = value->get_ref<const std::string &>();
  return llvm::Error::success();
}

llvm::Error JsonField::expectObject() const {
  if (*this && value->is_object())
    return llvm::Error::success();
  return error("is missing or not an object");
}

llvm::Error JsonField::expectArray() const {
  if (*this && value->is_array())
    return llvm::Error::success();
  return error("is missing or not an array");
}

namespace {

/// Builds the document and keeps the parser's message, which json::parse
/// gives away only by throwing.
class Reader : public nlohmann::detail::json_sax_dom_parser<json> {
public:
  explicit Reader(json &root)
      : json_sax_dom_parser(root, /*allow_exceptions_=*/false) {}

  template <typename Exception>
  bool parse_error(size_t, const std::string &, const Exception &exception) {
    message = exception.what();
    return false;
  }

  std::string message;
};

} // namespace

llvm::Expected<JsonFile> JsonFile::read(StringRef directory, StringRef name) {
  llvm::SmallString<256> path(directory);
  llvm::sys::path::append(path, name);
  auto text = readOptionalFile(path);
  if (!text)
    return text.takeError();

  JsonFile file;
  file.name = std::string(path);
  if (!*text)
    return file;
  Reader reader(file.value.emplace());
  if (!json::sax_parse(**text, &reader)) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    StringRef message = reader.message;
    return file.root().error("is damaged: " +
                             message.substr(message.find("] ") + 2));
  }
  if (!file.value->is_object())
    return file.root().error("is not a JSON object");
  return file;
}
