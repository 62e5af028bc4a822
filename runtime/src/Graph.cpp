// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "runtime/src/Graph.h"
#include "runtime/src/GraphRun.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace tercet;

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// Blocks come in four sizes an octave: 64 * (1, 1.25, 1.5, 1.75, 2, 2.5 ...).
static uint32_t roundUpToClass(uint64_t &size) {
  uint64_t last = std::max<uint64_t>(size, 64) - 1;
  int shift = std::bit_width(last) - 3;
  size = ((last >> shift) + 1) << shift;
  return static_cast<uint32_t>(4 * shift + ((last >> shift) & 3));
}

void *BlockList::allocate(uint64_t size) {
  if (size > INT64_MAX)
    return nullptr;
  uint32_t sizeClass = roundUpToClass(size);
  Block *block = unused[sizeClass];
  if (block) {
    unused[sizeClass] = block->next;
  } else {
    constexpr uint64_t HugePage = uint64_t(2) << 20;
    bool isHuge = size >= HugePage;
    void *memory;
    if (posix_memalign(&memory, isHuge ? HugePage : alignof(Block),
                       size + sizeof(Block)))
      return nullptr;
    if (isHuge)
      adviseHugePages(memory, size);
    block = static_cast<Block *>(memory);
  }
  *block = {used, nullptr, sizeClass, false};
  if (used)
    used->previous = block;
  used = block;
  return block + 1;
}

void BlockList::free(void *memory) {
  Block *block = blockOf(memory);
  if (block->next)
    block->next->previous = block->previous;
  (block->previous ? block->previous->next : used) = block->next;
  block->next = unused[block->sizeClass];
  unused[block->sizeClass] = block;
}

void BlockList::freeAllBut(std::span<const tercet_graph_tensor> kept) {
  for (Block *block = used; block; block = block->next)
    block->isKept = false;
  for (const tercet_graph_tensor &tensor : kept)
    blockOf(tensor.data)->isKept = true;
  for (Block *block = used; block;) {
    Block *next = block->next;
    if (!block->isKept)
      free(block + 1);
    block = next;
  }
}

BlockList::~BlockList() {
  freeAllBut({});
  for (Block *list : unused)
    while (Block *block = list) {
      list = block->next;
      ::free(block);
    }
}

//===----------------------------------------------------------------------===//
// What compiled code calls
//===----------------------------------------------------------------------===//

static thread_local BlockList *currentMemory;

void *tercet_allocate(int64_t size) {
  void *memory = size < 0 ? nullptr : currentMemory->allocate(size);
  if (!memory)
    tercet_fail("not enough memory for a tensor");
  return memory;
}

void tercet_free(void *memory) { currentMemory->free(memory); }

//===----------------------------------------------------------------------===//
// Graph
//===----------------------------------------------------------------------===//

Graph::Graph(Evaluate evaluate, const Signature &signature, const void *weights,
             int numThreads, uint64_t scratchSize)
    : evaluate(evaluate), names(signature), weights(weights),
      pool(numThreads ? numThreads : availableThreads(), scratchSize) {}

/// Whether all elements are in range.
static bool areElements(const ElementType &type, const void *data,
                        int64_t count) {
  auto *bytes = static_cast<const int8_t *>(data);
  return std::all_of(bytes, bytes + count, [&](int8_t byte) {
    return byte >= type.least && byte <= type.greatest;
  });
}

Error Graph::check(std::span<const tercet_graph_tensor> inputs) const {
  struct Binding {
    int64_t symbol, extent;
    const char *input;
  };
  std::vector<Binding> bindings;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Signature::Tensor &expected = names.inputs()[i];
    const int64_t *shape = inputs[i].shape;
    std::string what = std::string("input ") + names.name(expected) + ": ";
    int64_t size;
    if (!sizeInBytes(expected, shape, size))
      return Error(what + describeShape(expected, shape) + " is no shape");
    for (uint32_t axis = 0; axis < expected.rank; ++axis) {
      int64_t extent = expected.dims[axis];
      if (extent >= 0 && extent != shape[axis])
        return Error(what + "expected " + names.describe(expected) + ", not " +
                     describeShape(expected, shape));
      if (extent >= 0 || !*names.symbol(extent))
        continue;
      auto bound =
          std::find_if(bindings.begin(), bindings.end(),
                       [=](const Binding &b) { return b.symbol == extent; });
      if (bound == bindings.end())
        bindings.push_back({extent, shape[axis], names.name(expected)});
      else if (bound->extent != shape[axis])
        return Error(what + names.symbol(extent) +
                     format(" is %lld here and %lld in input %s",
                            (long long)shape[axis], (long long)bound->extent,
                            bound->input));
    }
    const ElementType &type = *findElementType(expected.element);
    if (type.isNarrow && !areElements(type, inputs[i].data, size))
      return Error(what + format("an element of %s is outside %d to %d",
                                 type.name, type.least, type.greatest));
  }
  return Error::success();
}

Error Graph::run(std::span<const tercet_graph_tensor> inputs,
                 std::span<tercet_graph_tensor> outputs) {
  memory.freeAllBut({});
  std::vector<tercet_graph_tensor> aligned(inputs.begin(), inputs.end());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (reinterpret_cast<uintptr_t>(inputs[i].data) % 64 == 0)
      continue;
    int64_t size;
    sizeInBytes(names.inputs()[i], inputs[i].shape, size);
    aligned[i].data = memory.allocate(size);
    if (!aligned[i].data)
      return Error("not enough memory for a copy of the inputs");
    memcpy(aligned[i].data, inputs[i].data, size);
  }
  std::vector<tercet_graph_tensor> results(names.outputs().size());
  BlockList *caller = std::exchange(currentMemory, &memory);
  const char *failure =
      evaluateOrFail(evaluate, weights, aligned.data(), results.data(), &pool);
  currentMemory = caller;
  if (failure) {
    memory.freeAllBut({});
    return Error(failure);
  }
  memory.freeAllBut(results);
  std::copy(results.begin(), results.end(), outputs.begin());
  return Error::success();
}
