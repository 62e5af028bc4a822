// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/ExternalData.h"
#include "frontends/Support/InputError.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::onnx;

/// Where the bytes are. A length of 0 stands for a missing one: the format
/// requires neither length nor offset.
struct Range {
  std::string location;
  uint64_t offset = 0, length = 0;
};

static Expected<Range> parseRange(const proto::TensorProto &tensor,
                                  StringRef where) {
  Range range;
  for (const proto::StringStringEntryProto &entry : tensor.external_data()) {
    StringRef key = entry.key(), value = entry.value();
    if (key == "location")
      range.location = entry.value();
    else if ((key == "offset" && value.getAsInteger(10, range.offset)) ||
             (key == "length" && value.getAsInteger(10, range.length)))
      return inputError(where, "{0} '{1}' of its external data is no size", key,
                        value);
  }
  return range;
}

Expected<TensorBytes> ExternalData::read(const proto::TensorProto &tensor,
                                         uint64_t size, StringRef where) {
  Expected<Range> range = parseRange(tensor, where);
  if (!range)
    return range.takeError();
  if (range->length != 0 && range->length != size)
    return inputError(where,
                      "has {0} bytes of external data, but its type and shape "
                      "need {1}",
                      range->length, size);
  Expected<std::shared_ptr<MemoryBuffer>> file = open(range->location, where);
  if (!file)
    return file.takeError();
  StringRef bytes = (*file)->getBuffer();
  if (range->offset > bytes.size() || size > bytes.size() - range->offset)
    return inputError(where,
                      "{0} bytes at {1} of '{2}' lie outside that file of {3} "
                      "bytes; it is truncated or belongs to another model",
                      size, range->offset, range->location, bytes.size());
  return TensorBytes{bytes.substr(range->offset, size), *file};
}

/// The path of a regular file that no name but its own leads to.
static Expected<std::string> findFile(StringRef directory, StringRef location,
                                      StringRef where) {
  auto parts = make_range(sys::path::begin(location), sys::path::end(location));
  if (location.empty() || location.contains('\0') ||
      sys::path::is_absolute(location) || is_contained(parts, ".."))
    return inputError(where,
                      "location '{0}' of its external data must be a path "
                      "within the model's directory",
                      location);
  SmallString<128> path(directory);
  sys::fs::file_status status;
  for (StringRef part : parts) {
    sys::path::append(path, part);
    if (std::error_code code = sys::fs::status(path, status, /*follow=*/false))
      return inputError(where, "cannot open its external data {0}: {1}", path,
                        code.message());
    if (sys::fs::is_symlink_file(status))
      return inputError(where,
                        "its external data {0} is a symbolic link, which may "
                        "lead anywhere; put the file itself there",
                        path);
  }
  if (!sys::fs::is_regular_file(status))
    return inputError(where, "its external data {0} is not a regular file",
                      path);
  if (status.getLinkCount() > 1)
    return inputError(where,
                      "its external data {0} has another name (a hard link), "
                      "perhaps outside the model's directory; put a copy there",
                      path);
  return path.str().str();
}

Expected<std::shared_ptr<MemoryBuffer>> ExternalData::open(StringRef location,
                                                           StringRef where) {
  std::shared_ptr<MemoryBuffer> &file = files[location];
  if (file)
    return file;
  Expected<std::string> path = findFile(directory, location, where);
  if (!path)
    return path.takeError();
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer = MemoryBuffer::getFile(
      *path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return inputError(where, "cannot open its external data {0}: {1}", *path,
                      buffer.getError().message());
  return file = std::move(*buffer);
}
