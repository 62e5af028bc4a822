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

const Backend &getBackend(const TargetSpec &target) {
  for (const Backend *backend : getBackends())
    if (backend->supports(target))
      return *backend;
  llvm_unreachable("the Generic backend supports every target");
}

} // namespace tercet
