// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/Functions.h"
#include "frontends/Support/InputError.h"

#include <google/protobuf/unknown_field_set.h>

using namespace llvm;
using namespace tercet;
using namespace tercet::onnx;

// Fields that libonnx 1.12 does not know.
constexpr int kNodeOverloadField = 8;
constexpr int kFunctionOverloadField = 13;
constexpr int kFunctionAttributeProtoField = 11;

/// Calls visit(bytes) for each occurrence of a length-delimited field.
static void forEachUnknown(const google::protobuf::Message &message, int number,
                           function_ref<void(const std::string &)> visit) {
  const google::protobuf::UnknownFieldSet &fields =
      message.GetReflection()->GetUnknownFields(message);
  for (int i = 0; i < fields.field_count(); ++i)
    if (fields.field(i).number() == number &&
        fields.field(i).type() ==
            google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED)
      visit(fields.field(i).length_delimited());
}

static std::string getKey(StringRef domain, StringRef name,
                          const google::protobuf::Message &message,
                          int overloadField) {
  std::string overload;
  forEachUnknown(message, overloadField,
                 [&](const std::string &bytes) { overload = bytes; });
  return (normalizeDomain(domain) + ":" + name + ":" + overload).str();
}

Expected<FunctionTable> FunctionTable::create(const ONNXReader &reader) {
  FunctionTable table;
  for (const proto::FunctionProto &proto : reader.getModel().functions()) {
    std::string where =
        formatv("{0}: function '{1}'", reader.getPath(), proto.name()).str();
    auto [entry, isNew] = table.functions.try_emplace(
        getKey(proto.domain(), proto.name(), proto, kFunctionOverloadField),
        Function{&proto, reader.getOpsetVersions(), {}});
    if (!isNew)
      return inputError(where, "is defined twice");
    Function &function = entry->second;
    if (Error error = addOpsetVersions(proto.opset_import(), where,
                                       function.opsetVersions))
      return std::move(error);
    bool valid = true;
    forEachUnknown(
        proto, kFunctionAttributeProtoField, [&](const std::string &bytes) {
          valid &=
              function.defaults.emplace_back().ParsePartialFromString(bytes);
        });
    if (!valid)
      return inputError(where, "has a damaged attribute");
  }
  return table;
}

const Function *FunctionTable::find(const proto::NodeProto &node) const {
  auto it = functions.find(
      getKey(node.domain(), node.op_type(), node, kNodeOverloadField));
  return it == functions.end() ? nullptr : &it->second;
}

namespace {
using Attributes = StringMap<const proto::AttributeProto *>;
} // namespace

/// Replaces references in a node and in the subgraphs of the body itself.
static void substitute(proto::NodeProto &node, const Attributes &values) {
  google::protobuf::RepeatedPtrField<proto::AttributeProto> attributes;
  attributes.Swap(node.mutable_attribute());
  for (proto::AttributeProto &attribute : attributes) {
    if (attribute.ref_attr_name().empty()) {
      if (attribute.has_g())
        for (proto::NodeProto &inner : *attribute.mutable_g()->mutable_node())
          substitute(inner, values);
      node.mutable_attribute()->Add(std::move(attribute));
    } else if (const auto *value = values.lookup(attribute.ref_attr_name())) {
      proto::AttributeProto &copy = *node.mutable_attribute()->Add();
      copy = *value;
      copy.set_name(attribute.name());
    }
  }
}

Nodes tercet::onnx::instantiate(const Function &function,
                                const proto::NodeProto &call) {
  Attributes values;
  for (const proto::AttributeProto &attribute : function.defaults)
    values[attribute.name()] = &attribute;
  for (const proto::AttributeProto &attribute : call.attribute())
    values[attribute.name()] = &attribute;
  Nodes nodes = function.proto->node();
  for (proto::NodeProto &node : nodes)
    substitute(node, values);
  return nodes;
}
