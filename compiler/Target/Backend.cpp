// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/Backend.h"

#include "llvm/ADT/STLExtras.h"

namespace tercet {

#define TERCET_BACKEND(Name) const Backend &get##Name##Backend();
#include "compiler/Target/Backends.inc"
#undef TERCET_BACKEND

llvm::ArrayRef<const Backend *> getBackends() {
  static const Backend *const kBackends[] = {
#define TERCET_BACKEND(Name) &get##Name##Backend(),
#include "compiler/Target/Backends.inc"
#undef TERCET_BACKEND
  };
  return kBackends;
}

/// The product of what each knob may be. Long chains go with codes that are
/// shifted down, in any length; a dot product in 32 bits takes them in place or
/// not, and its accumulator sets one place or each its own. A GEMV has all or
/// some of the 16 / lanes parts of a group at a time.
std::vector<ternary::Schedule>
Backend::getCandidates(ternary::Packing packing, BatchClass batch,
                       const ternary::Schedule &base,
                       const TargetSpec &target) const {
  std::vector<ternary::Schedule> candidates = {base};
  auto add = [&](const ternary::Schedule &candidate) {
    if (!llvm::is_contained(candidates, candidate))
      candidates.push_back(candidate);
  };
  bool isTable = packing == ternary::Packing::L3;
  ternary::Schedule s = base;
  if (batch == BatchClass::Prefill) {
    for (bool planeMajor : {false, true})
      for (int64_t tokens : {1, 2, 3, 4, 5, 6, 8}) {
        s.planeMajor = planeMajor;
        s.tokens = tokens;
        if (!planeMajor || !isTable)
          add(s);
      }
    return candidates;
  }
  llvm::SmallVector<std::pair<int64_t, bool>> chains;
  if (isTable || base.chain > 1)
    for (int64_t part : {4, 2, 1})
      chains.emplace_back(std::max<int64_t>(base.chain / part, 1), false);
  else
    chains = {{1, true}, {1, false}};
  int64_t maxLanes = getRegisters(target).lanes;
  for (int64_t lanes : {maxLanes, std::max<int64_t>(maxLanes / 2, 4)})
    for (int64_t parts = 0; parts < 16 / lanes; parts = parts ? 2 * parts : 1)
      for (int64_t unroll : {1, 2, 4, 8})
        for (auto [chain, inPlace] : chains)
          for (int64_t prefetch : {0, 1024, 4096, 8192})
            for (int64_t streams : {int64_t(1), unroll}) {
              if (streams > 1 && (isTable || chain > 1))
                continue;
              s.lanes = lanes;
              s.parts = parts;
              s.unroll = unroll;
              s.chain = chain;
              s.inPlace = inPlace;
              s.prefetch = prefetch;
              s.streams = streams;
              add(s);
            }
  return candidates;
}

const Backend &getBackend(const TargetSpec &target) {
  for (const Backend *backend : getBackends())
    if (backend->supports(target))
      return *backend;
  llvm_unreachable("the Generic backend supports every target");
}

} // namespace tercet
