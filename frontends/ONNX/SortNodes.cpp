// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "frontends/ONNX/SortNodes.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include <queue>

using namespace llvm;
using namespace tercet::onnx;

static StringSet<> getOwnNames(const proto::GraphProto &graph) {
  StringSet<> names;
  for (const proto::ValueInfoProto &input : graph.input())
    names.insert(input.name());
  for (const proto::TensorProto &tensor : graph.initializer())
    names.insert(tensor.name());
  for (const proto::SparseTensorProto &tensor : graph.sparse_initializer())
    names.insert(tensor.values().name());
  for (const proto::NodeProto &node : graph.node())
    names.insert_range(node.output());
  return names;
}

/// Calls visit(name) for each name that a node reads, by itself or in
/// subgraphs.
static void forEachUse(const proto::NodeProto &node,
                       function_ref<void(StringRef)> visit) {
  for (const std::string &name : node.input())
    visit(name);
  for (const proto::AttributeProto &attribute : node.attribute()) {
    if (!attribute.has_g())
      continue;
    const proto::GraphProto &graph = attribute.g();
    StringSet<> own = getOwnNames(graph);
    auto visitOuter = [&](StringRef name) {
      if (!own.contains(name))
        visit(name);
    };
    for (const proto::NodeProto &inner : graph.node())
      forEachUse(inner, visitOuter);
    for (const proto::ValueInfoProto &output : graph.output())
      visitOuter(output.name());
  }
}

SmallVector<unsigned> tercet::onnx::sortNodes(const Nodes &nodes) {
  StringMap<unsigned> producers;
  for (auto [index, node] : enumerate(nodes))
    for (const std::string &output : node.output())
      producers.try_emplace(output, index);
  producers.erase(""); // an output that nobody wants

  SmallVector<SmallVector<unsigned, 2>> users(nodes.size());
  SmallVector<unsigned> numMissing(nodes.size());
  for (auto [index, node] : enumerate(nodes))
    forEachUse(node, [&, user = index](StringRef name) {
      auto producer = producers.find(name);
      if (producer == producers.end())
        return;
      users[producer->second].push_back(user);
      ++numMissing[user];
    });

  std::priority_queue<unsigned, std::vector<unsigned>, std::greater<>> ready;
  for (auto [index, count] : enumerate(numMissing))
    if (count == 0)
      ready.push(index);
  SmallVector<unsigned> order;
  while (!ready.empty()) {
    unsigned index = ready.top();
    ready.pop();
    order.push_back(index);
    for (unsigned user : users[index])
      if (--numMissing[user] == 0)
        ready.push(user);
  }
  return order;
}
