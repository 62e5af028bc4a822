// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/Safetensors/SafetensorsReader.h"
#include "frontends/Support/InputError.h"
#include "frontends/Support/InputFile.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

using namespace llvm;
using namespace tercet;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000; // the format's own limit

/// Every dtype of the format, so that tensors nobody reads do not get in the
/// way. 0 when there is no such dtype.
static uint64_t getBitWidth(StringRef dtype) {
  return StringSwitch<uint64_t>(dtype)
      .Case("F4", 4)
      .Cases({"F6_E2M3", "F6_E3M2"}, 6)
      .Cases({"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"}, 8)
      .Cases({"I16", "U16", "F16", "BF16"}, 16)
      .Cases({"I32", "U32", "F32"}, 32)
      .Cases({"I64", "U64", "F64", "C64"}, 64)
      .Default(0);
}

const Tensor *SafetensorsReader::find(StringRef name) const {
  auto it = byName.find(name);
  return it == byName.end() ? nullptr : &tensors[it->second];
}

/// One entry of the header; `data` is the file after the header.
static Expected<Tensor> parseTensor(StringRef name, const json::Value &value,
                                    StringRef path, ArrayRef<uint8_t> data) {
  std::string where = formatv("{0}: tensor '{1}'", path, name).str();
  const json::Object *entry = value.getAsObject();
  std::optional<StringRef> dtype =
      entry ? entry->getString("dtype") : std::nullopt;
  const json::Array *shape = entry ? entry->getArray("shape") : nullptr;
  const json::Array *offsets =
      entry ? entry->getArray("data_offsets") : nullptr;
  if (!dtype || !shape || !offsets || offsets->size() != 2 ||
      entry->size() != 3)
    return inputError(where, "its header entry must have dtype, shape and two "
                             "data_offsets, nothing else");

  Tensor tensor{name.str(), dtype->str(), {}, path, 0, {}};
  uint64_t bits = getBitWidth(*dtype);
  if (bits == 0)
    return inputError(where, "unknown dtype '{0}'", *dtype);
  for (const json::Value &dim : *shape) {
    std::optional<int64_t> size = dim.getAsInteger();
    if (!size || *size < 0)
      return inputError(where, "shape has an entry that is not a size: {0}",
                        dim);
    bool overflow = false;
    bits = SaturatingMultiply<uint64_t>(bits, *size, &overflow);
    if (overflow)
      return inputError(where, "shape overflows 64 bits");
    tensor.shape.push_back(*size);
  }

  std::optional<uint64_t> begin = (*offsets)[0].getAsUINT64();
  std::optional<uint64_t> end = (*offsets)[1].getAsUINT64();
  if (!begin || !end || *begin > *end)
    return inputError(where, "data_offsets [{0}, {1}] are not a range",
                      (*offsets)[0], (*offsets)[1]);
  if (*end > data.size())
    return inputError(where,
                      "ends at byte {0} of the data, but the file has {1}; it "
                      "is truncated, download it again",
                      *end, data.size());
  if (bits % 8 != 0 || *end - *begin != bits / 8)
    return inputError(
        where, "{0} of shape {1} needs {2} bytes, data_offsets hold {3}",
        *dtype, printShape(tensor.shape), divideCeil(bits, 8), *end - *begin);
  if (*begin % std::max<uint64_t>(getBitWidth(*dtype) / 8, 1) != 0)
    return inputError(where,
                      "offset {0} is not a multiple of its {1} element; save "
                      "the file again with the safetensors library",
                      *begin, *dtype);
  tensor.offset = *begin; // of the data; addFile() adds the header
  tensor.bytes = data.slice(*begin, *end - *begin);
  return tensor;
}

Error SafetensorsReader::addFile(std::unique_ptr<MemoryBuffer> file) {
  StringRef path = file->getBufferIdentifier();
  StringRef text = file->getBuffer();
  if (text.size() < kLengthBytes)
    return inputError(path,
                      "has {0} bytes, too few for a safetensors file; download "
                      "it again",
                      text.size());
  uint64_t headerBytes = support::endian::read64le(text.data());
  text = text.drop_front(kLengthBytes);
  if (headerBytes > kMaxHeaderBytes)
    return inputError(
        path,
        "header length {0} exceeds {1}; this is not a safetensors "
        "file, or it is damaged",
        headerBytes, kMaxHeaderBytes);
  if (headerBytes > text.size())
    return inputError(path,
                      "header length {0} exceeds the file's {1} bytes; it is "
                      "truncated, download it again",
                      headerBytes, text.size() + kLengthBytes);
  Expected<json::Object> header =
      parseJSONObject(text.take_front(headerBytes), (path + ": header").str(),
                      DuplicateKeys::Refuse);
  if (!header)
    return header.takeError();

  ArrayRef<uint8_t> data = arrayRefFromStringRef(text.drop_front(headerBytes));
  size_t first = tensors.size();
  for (auto &[key, value] : *header) {
    if (key == "__metadata__")
      continue;
    Expected<Tensor> tensor = parseTensor(key, value, path, data);
    if (!tensor)
      return tensor.takeError();
    tensors.push_back(std::move(*tensor));
  }

  // Sorted by offset the tensors must tile the data: a hole or an overlap means
  // that the header belongs to other bytes.
  auto own = MutableArrayRef(tensors).drop_front(first);
  llvm::sort(own, [](const Tensor &a, const Tensor &b) {
    return std::tuple(a.offset, a.bytes.size(), StringRef(a.name)) <
           std::tuple(b.offset, b.bytes.size(), StringRef(b.name));
  });
  uint64_t end = 0;
  StringRef previous = "the header";
  for (auto [index, tensor] : enumerate(own)) {
    if (tensor.offset != end)
      return inputError(
          path,
          "tensor '{0}' starts at byte {1} of the data, but {2} "
          "ends at {3}: tensors must neither overlap nor leave holes",
          tensor.name, tensor.offset, previous, end);
    end += tensor.bytes.size();
    previous = tensor.name;
    tensor.offset += kLengthBytes + headerBytes;
    auto [it, inserted] = byName.try_emplace(tensor.name, first + index);
    if (!inserted)
      return inputError(path,
                        "tensor '{0}' is also in {1}; remove one of the files",
                        tensor.name, tensors[it->second].path);
  }
  if (end != data.size())
    return inputError(path,
                      "{0} bytes follow the last tensor; the file is damaged, "
                      "download it again",
                      data.size() - end);
  files.push_back(std::move(file));
  return Error::success();
}

Error SafetensorsReader::addShards(StringRef directory, StringRef indexPath) {
  Expected<std::unique_ptr<MemoryBuffer>> file = openInputFile(indexPath);
  if (!file)
    return file.takeError();
  Expected<json::Object> index =
      parseJSONObject((*file)->getBuffer(), indexPath, DuplicateKeys::Refuse);
  if (!index)
    return index.takeError();
  const json::Object *weightMap = index->getObject("weight_map");
  if (!weightMap || weightMap->empty())
    return inputError(indexPath,
                      "has no 'weight_map' of tensor names to files");

  std::map<StringRef, StringRef> shards; // file -> one of its tensors; ordered
  for (auto &[name, value] : *weightMap) {
    std::optional<StringRef> shard = value.getAsString();
    if (!shard || shard->empty() || sys::path::filename(*shard) != *shard ||
        *shard == "." || *shard == "..")
      return inputError(indexPath,
                        "tensor '{0}' must name a file of the same "
                        "directory, not {1}",
                        StringRef(name), value);
    shards.try_emplace(*shard, name);
  }
  for (auto [shard, name] : shards) {
    SmallString<128> path(directory);
    sys::path::append(path, shard);
    if (!sys::fs::exists(path))
      return inputError(path,
                        "missing, but {0} says that it holds tensor '{1}'; "
                        "download it",
                        indexPath, name);
    Expected<std::unique_ptr<MemoryBuffer>> opened = openInputFile(path);
    if (!opened)
      return opened.takeError();
    if (Error error = addFile(std::move(*opened)))
      return error;
  }
  for (auto &[name, shard] : *weightMap) {
    const Tensor *tensor = find(name);
    if (!tensor || sys::path::filename(tensor->path) != *shard.getAsString())
      return inputError(indexPath,
                        "tensor '{0}' is not in {1}, the file it is said "
                        "to be in; download the checkpoint again",
                        StringRef(name), *shard.getAsString());
  }
  return Error::success();
}

Expected<SafetensorsReader> SafetensorsReader::open(StringRef path) {
  SafetensorsReader reader;
  SmallString<128> single(path), index(path);
  if (sys::fs::is_directory(path)) {
    sys::path::append(single, "model.safetensors");
    sys::path::append(index, "model.safetensors.index.json");
    if (!sys::fs::exists(single)) {
      if (!sys::fs::exists(index))
        return inputError(path, "holds neither model.safetensors nor "
                                "model.safetensors.index.json; convert other "
                                "weights (pytorch_model.bin) to safetensors");
      if (Error error = reader.addShards(path, index))
        return std::move(error);
      return reader;
    }
  }
  Expected<std::unique_ptr<MemoryBuffer>> file = openInputFile(single);
  if (!file)
    return file.takeError();
  if (Error error = reader.addFile(std::move(*file)))
    return std::move(error);
  return reader;
}
