// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Support/InputFile.h"
#include "frontends/Support/InputError.h"

#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"

using namespace llvm;

Error tercet::makeInputError(std::string message) {
  constexpr size_t maxLength = 1000;
  if (message.size() > maxLength)
    message.replace(maxLength / 2, message.size() - maxLength, "[...]");
  for (char &c : message)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
      c = '?';
  return createStringError(std::move(message), inconvertibleErrorCode());
}

std::string tercet::printNumber(double number) {
  std::string text;
  raw_string_ostream(text) << format("%g", number);
  return text;
}

std::string tercet::printShape(ArrayRef<int64_t> shape) {
  return formatv("[{0:$[, ]}]", make_range(shape.begin(), shape.end())).str();
}

Expected<std::unique_ptr<MemoryBuffer>> tercet::openInputFile(StringRef path) {
  sys::fs::file_status status;
  if (std::error_code ec = sys::fs::status(path, status))
    return inputError(path, "cannot open: {0}", ec.message());
  if (!sys::fs::is_regular_file(status))
    return inputError(path, "is not a regular file");
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(
      path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return inputError(path, "cannot open: {0}", buffer.getError().message());
  if ((*buffer)->getBufferSize() == 0)
    return inputError(path, "is empty; download it again");
  if ((*buffer)->getBuffer().starts_with("version https://git-lfs"))
    return inputError(path,
                      "is a Git LFS pointer, not the file itself; fetch it "
                      "with `git lfs pull`");
  return std::move(*buffer);
}

/// What llvm::json does not check: duplicate keys (it keeps the last) and
/// nesting (it recurses). Text that is not JSON passes; the parser reports it.
static Error checkStructure(StringRef text, StringRef where,
                            tercet::DuplicateKeys duplicates) {
  constexpr size_t maxDepth = 64;
  SmallVector<StringSet<>> scopes; // the keys so far of each open bracket
  for (size_t at = 0;
       (at = text.find_first_of("{}[]\"", at)) != StringRef::npos;) {
    char c = text[at];
    if (c != '"') {
      ++at;
      if (c == '{' || c == '[') {
        if (scopes.size() == maxDepth)
          return tercet::inputError(
              where, "JSON at byte {0} is nested deeper than {1}", at - 1,
              maxDepth);
        scopes.emplace_back();
      } else if (!scopes.empty()) {
        scopes.pop_back();
      }
      continue;
    }
    size_t end = at + 1;
    while (end < text.size() && text[end] != '"')
      end += text[end] == '\\' ? 2 : 1;
    if (end >= text.size() || scopes.empty())
      return Error::success();
    StringRef literal = text.slice(at, end + 1);
    at = end + 1;
    if (duplicates == tercet::DuplicateKeys::KeepLast ||
        !text.substr(at).ltrim(" \t\r\n").starts_with(":"))
      continue;
    std::string key = literal.drop_front().drop_back().str();
    if (literal.contains('\\')) { // equal names may be escaped differently
      Expected<json::Value> decoded = json::parse(literal);
      if (!decoded)
        return consumeError(decoded.takeError()), Error::success();
      key = decoded->getAsString()->str();
    }
    if (!scopes.back().insert(key).second)
      return tercet::inputError(where,
                                "key '{0}' appears twice (second at byte {1})",
                                key, at - literal.size());
  }
  return Error::success();
}

Expected<json::Object> tercet::parseJSONObject(StringRef text, StringRef where,
                                               DuplicateKeys duplicates) {
  size_t invalid;
  if (!json::isUTF8(text, &invalid))
    return inputError(where, "is not UTF-8 (byte {0})", invalid);
  if (Error error = checkStructure(text, where, duplicates))
    return std::move(error);
  Expected<json::Value> value = json::parse(text);
  if (!value)
    return inputError(where, "is not valid JSON: {0}",
                      toString(value.takeError()));
  json::Object *object = value->getAsObject();
  if (!object)
    return inputError(where, "must be a JSON object");
  return std::move(*object);
}
