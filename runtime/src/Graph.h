// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Running a compiled graph: its inputs are checked, and the memory that it
// allocates is owned here, so that a run that fails leaves nothing behind.

#ifndef TERCET_RUNTIME_GRAPH_H
#define TERCET_RUNTIME_GRAPH_H

#include "runtime/src/Signature.h"
#include "runtime/src/ThreadPool.h"

#include <span>

namespace tercet {

/// Memory of tercet_allocate. Blocks that are given back are kept for later
/// ones: most graphs ask for the same sizes in every run.
class BlockList {
public:
  BlockList() = default;
  BlockList(const BlockList &) = delete;
  ~BlockList();

  /// Null when the system refuses.
  void *allocate(uint64_t size);
  void free(void *memory);
  void freeAllBut(std::span<const tercet_graph_tensor> kept);

private:
  /// Precedes the memory it describes, which starts at the next multiple of 64.
  struct alignas(64) Block {
    Block *next, *previous; ///< In the list of what is in use.
    uint32_t sizeClass;
    bool isKept;
  };
  static constexpr uint32_t NumClasses = 256;

  static Block *blockOf(void *memory) {
    return static_cast<Block *>(memory) - 1;
  }

  Block *used = nullptr;
  Block *unused[NumClasses] = {};
};

/// Code of a graph, with what it needs to run. One thread may use it at a time.
class Graph {
public:
  using Evaluate = decltype(&tercet_evaluate);

  /// `weights` and what `signature` points at have to live as long.
  Graph(Evaluate evaluate, const Signature &signature, const void *weights,
        int numThreads, uint64_t scratchSize);

  /// False when there was no memory for the threads.
  bool isValid() const { return pool.isValid(); }
  const Signature &signature() const { return names; }
  int numThreads() const { return pool.numThreads(); }

  /// Whether a run may have these inputs.
  Error check(std::span<const tercet_graph_tensor> inputs) const;

  /// Outputs point at memory that lives until the next run. `inputs` have been
  /// checked.
  Error run(std::span<const tercet_graph_tensor> inputs,
            std::span<tercet_graph_tensor> outputs);

private:
  Evaluate evaluate;
  Signature names;
  const void *weights;
  tercet_pool pool;
  BlockList memory;
};

} // namespace tercet

#endif // TERCET_RUNTIME_GRAPH_H
