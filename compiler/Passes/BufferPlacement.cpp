// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/BufferPlacement.h"

#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace mlir;
using namespace tercet;

int64_t tercet::getLastUse(Value value, Block &body,
                           const DenseMap<Operation *, int64_t> &order) {
  int64_t last = 0;
  for (Operation *user : value.getUsers()) {
    last = std::max(last, order.lookup(body.findAncestorOpInBlock(*user)));
    if (isa<ViewLikeOpInterface>(user))
      for (Value view : user->getResults())
        last = std::max(last, getLastUse(view, body, order));
  }
  return last;
}

int64_t tercet::assignOffsets(MutableArrayRef<Buffer> buffers) {
  SmallVector<Buffer *> bySize, placed;
  for (Buffer &buffer : buffers)
    bySize.push_back(&buffer);
  llvm::sort(bySize, [](Buffer *a, Buffer *b) {
    return std::tie(b->size, a->begin) < std::tie(a->size, b->begin);
  });
  int64_t arenaSize = 0;
  for (Buffer *buffer : bySize) {
    int64_t offset = 0;
    for (Buffer *other : placed) { // sorted by offset
      bool alive = other->begin <= buffer->end && buffer->begin <= other->end;
      if (alive && offset + buffer->size > other->offset)
        offset = std::max(offset, other->offset + other->size);
    }
    buffer->offset = offset;
    arenaSize = std::max(arenaSize, offset + buffer->size);
    placed.insert(llvm::upper_bound(placed, buffer,
                                    [](Buffer *a, Buffer *b) {
                                      return a->offset < b->offset;
                                    }),
                  buffer);
  }
  return arenaSize;
}
