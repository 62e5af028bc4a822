// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The template of a backend: copy this folder, rename, and add the name to
// Target/CMakeLists.txt. It supports no target, so it is never chosen.

#include "compiler/Target/Backend.h"

using namespace mlir;

namespace tercet {
namespace {

class NullBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "Null"; }

  llvm::StringRef getDescription() const override {
    return "template of a backend, never chosen";
  }

  /// Look at target.triple and target.has(TERCET_CPU_...).
  bool supports(const TargetSpec &target) const override { return false; }

  /// `lanes` is the number of i32 lanes of the target's dot product; see
  /// LayoutAttr for the rest.
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    return {.lanes = 4, .tokens = 2};
  }

  /// Patterns on ternary.unpack, ternary.dot and ternary.lookup. What has no
  /// pattern here gets the generic one.
  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {}
};

} // namespace

const Backend &getNullBackend() {
  static const NullBackend kBackend;
  return kBackend;
}

} // namespace tercet
