// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every case at every level. One that this machine lacks is reported as
// skipped, unless AVX-VNNI is all that is missing: that is emulated, and so are
// other architectures, each level on a CPU without the next.

#include "tests/conformance/Cases.h"
#include "tests/conversion/KernelJIT.h"
#include "tests/support/avxvnni/AVXVNNIEmulator.h"

#include "gtest/gtest.h"

using namespace tercet;
using namespace tercet::conformance;

/// Each stands for one way through a backend: pmaddwd, pmaddubsw of each width,
/// the two forms of vpdpbusd; with and without fma; smull, sdot, usdot
/// and usmmla; vectors of any length; WebAssembly's dot of 16 bits. A CPU by
/// name, where masks cost nothing.
static const char *const kLevels[] = {
    "x86-64",
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v3+avxvnni",
    "x86-64-v4",
    "x86-64-v4+avx512vnni",
    "x86-64-v4+avx512vnni+avx512vbmi",
    "x86-64-v4+avx512vnni+avx512vbmi+amxint8",
    "znver4",
    "aarch64",
    "aarch64+dotprod",
    "aarch64+dotprod+i8mm",
    "riscv64+v",
    "wasm32+simd128",
};

/// AMX and masks change matmuls alone.
static bool isDifferent(llvm::StringRef level, const Case &theCase) {
  return (!level.ends_with("+amxint8") && level != "znver4") ||
         llvm::StringRef(theCase.name).starts_with("matmul_");
}

namespace {

class ConformanceTest : public testing::Test {
public:
  ConformanceTest(const char *level, const Case &theCase)
      : level(level), theCase(theCase) {}

  void TestBody() override {
    KernelJIT::Support support = KernelJIT::prepareFor(level);
    if (support == KernelJIT::Support::None)
      GTEST_SKIP() << "nothing here runs " << level;
    uint64_t before = avxvnni::countEmulated();
    theCase.run(llvm::cantFail(parseTarget(level)));
    if (support == KernelJIT::Support::Emulated && theCase.hasDots)
      EXPECT_GT(avxvnni::countEmulated(), before);
  }

private:
  const char *level;
  const Case &theCase;
};

} // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  static const std::vector<Case> kCases = getCases();
  for (const Case &theCase : kCases)
    for (const char *level : kLevels) {
      if (!isDifferent(level, theCase))
        continue;
      testing::RegisterTest(
          ((theCase.isFast ? "Fast/" : "Full/") + theCase.name).c_str(), level,
          nullptr, nullptr, __FILE__, __LINE__,
          [level, &theCase]() -> testing::Test * {
            return new ConformanceTest(level, theCase);
          });
    }
  return RUN_ALL_TESTS();
}
