// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/ONNXReader.h"
#include "frontends/Support/InputError.h"
#include "frontends/Support/InputFile.h"

#include "llvm/Support/Path.h"
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

using namespace llvm;
using namespace tercet;
using namespace tercet::onnx;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

constexpr int64_t kMinIRVersion = 3, kMaxIRVersion = 14;
constexpr int64_t kMinOpset = 1, kMaxOpset = 28;

/// raw_data of initializers beyond this size is not copied into the message.
constexpr size_t kMaxCopiedBytes = 4096;

/// Calls visit(number, value, field) for each field of a message: number and
/// value if it is length-delimited, else 0 and nothing, and all its bytes.
/// False if the message is damaged.
static bool forEachField(StringRef message,
                         function_ref<bool(int, StringRef, StringRef)> visit) {
  CodedInputStream input(reinterpret_cast<const uint8_t *>(message.data()),
                         message.size());
  while (input.CurrentPosition() < int64_t(message.size())) {
    size_t begin = input.CurrentPosition();
    uint32_t tag = input.ReadTag();
    int number = 0, size = 0;
    if (WireFormatLite::GetTagWireType(tag) ==
        WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      number = WireFormatLite::GetTagFieldNumber(tag);
      if (!input.ReadVarintSizeAsInt(&size) || !input.Skip(size))
        return false;
    } else if (!WireFormatLite::SkipField(&input, tag)) {
      return false;
    }
    size_t end = input.CurrentPosition();
    if (!visit(number, message.slice(end - size, end),
               message.slice(begin, end)))
      return false;
  }
  return true;
}

ONNXReader::ONNXReader(std::shared_ptr<MemoryBuffer> buffer)
    : file(std::move(buffer)), model(std::make_unique<proto::ModelProto>()),
      externalData(sys::path::parent_path(getPath())) {}

Expected<ONNXReader> ONNXReader::open(StringRef path) {
  Expected<std::unique_ptr<MemoryBuffer>> file = openInputFile(path);
  if (!file)
    return file.takeError();
  return parse(std::move(*file));
}

Expected<ONNXReader> ONNXReader::parse(std::shared_ptr<MemoryBuffer> file) {
  ONNXReader reader(std::move(file));
  if (Error error = reader.parseModel())
    return std::move(error);
  if (Error error = reader.checkVersions())
    return std::move(error);
  return reader;
}

Error ONNXReader::parseModel() {
  if (file->getBufferSize() > INT_MAX)
    return inputError(
        getPath(), "is larger than 2 GiB, which no protobuf can be; save the "
                   "model with its weights as external data");
  std::string rest; // all but the graph
  SmallVector<StringRef, 1> graphs;
  bool valid = forEachField(
      file->getBuffer(), [&](int number, StringRef value, StringRef field) {
        if (number == proto::ModelProto::kGraphFieldNumber)
          graphs.push_back(value);
        else
          rest += field;
        return true;
      });
  // A field that is there twice is merged, as protobuf does.
  if (!valid || !model->ParsePartialFromString(rest) ||
      !all_of(graphs, [&](StringRef graph) { return parseGraph(graph); }))
    return inputError(getPath(),
                      "is no ONNX model: as a protobuf it is damaged, or "
                      "nested deeper than 100 messages; download or export it "
                      "again");
  if (!model->has_graph() || !model->has_ir_version())
    return inputError(getPath(), "is no ONNX model: it has no graph or no "
                                 "ir_version; download or export it again");
  return Error::success();
}

bool ONNXReader::parseGraph(StringRef bytes) {
  std::string rest; // all but the initializers
  bool valid =
      forEachField(bytes, [&](int number, StringRef value, StringRef field) {
        if (number == proto::GraphProto::kInitializerFieldNumber)
          return parseInitializer(value);
        rest += field;
        return true;
      });
  return valid && model->mutable_graph()->MergeFromString(rest);
}

bool ONNXReader::parseInitializer(StringRef bytes) {
  proto::TensorProto *tensor = model->mutable_graph()->add_initializer();
  std::string rest; // all but large raw_data
  bool valid =
      forEachField(bytes, [&](int number, StringRef value, StringRef field) {
        if (number == proto::TensorProto::kRawDataFieldNumber &&
            value.size() > kMaxCopiedBytes)
          mappedData[tensor] = value;
        else
          rest += field;
        return true;
      });
  return valid && tensor->ParsePartialFromString(rest);
}

StringRef tercet::onnx::normalizeDomain(StringRef domain) {
  return domain == "ai.onnx" ? "" : domain;
}

Error tercet::onnx::addOpsetVersions(
    const google::protobuf::RepeatedPtrField<proto::OperatorSetIdProto>
        &imports,
    StringRef where, OpsetVersions &versions) {
  for (const proto::OperatorSetIdProto &import : imports) {
    StringRef domain = normalizeDomain(import.domain());
    int64_t version = import.version();
    if (domain.empty() && (version < kMinOpset || version > kMaxOpset))
      return inputError(where,
                        "uses opset {0} of ONNX; {1} to {2} are supported, "
                        "export the model with one of them",
                        version, kMinOpset, kMaxOpset);
    versions[domain] = version;
  }
  return Error::success();
}

Error ONNXReader::checkVersions() {
  int64_t version = model->ir_version();
  if (version < kMinIRVersion || version > kMaxIRVersion)
    return inputError(getPath(),
                      "has IR version {0}; {1} to {2} are supported, export "
                      "the model with one of them",
                      version, kMinIRVersion, kMaxIRVersion);
  return addOpsetVersions(model->opset_import(), getPath(), opsetVersions);
}

Expected<std::optional<TensorBytes>>
ONNXReader::getBytes(const proto::TensorProto &tensor, uint64_t size) {
  if (tensor.data_location() == proto::TensorProto::EXTERNAL) {
    std::string where =
        formatv("{0}: tensor '{1}'", getPath(), tensor.name()).str();
    Expected<TensorBytes> bytes = externalData.read(tensor, size, where);
    if (!bytes)
      return bytes.takeError();
    return *bytes;
  }
  auto mapped = mappedData.find(&tensor);
  if (mapped != mappedData.end())
    return TensorBytes{mapped->second, file};
  if (tensor.has_raw_data())
    return TensorBytes{tensor.raw_data(), nullptr};
  return std::nullopt;
}
