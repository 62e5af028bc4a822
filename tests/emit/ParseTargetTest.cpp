// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Target/ParseTarget.h"
#include "tercet/artifact.h"
#include "gtest/gtest.h"

using namespace llvm;
using namespace tercet;

static TargetSpec parse(StringRef text) {
  Expected<TargetSpec> spec = parseTarget(text);
  EXPECT_TRUE(bool(spec)) << text.str();
  return spec ? *spec : (consumeError(spec.takeError()), TargetSpec());
}

static std::string errorOf(StringRef text) {
  Expected<TargetSpec> spec = parseTarget(text);
  return spec ? "no error" : toString(spec.takeError());
}

TEST(ParseTarget, LevelsAreCumulative) {
  uint64_t v2 = TERCET_CPU_SSSE3 | TERCET_CPU_SSE41 | TERCET_CPU_SSE42;
  uint64_t v3 = v2 | TERCET_CPU_AVX | TERCET_CPU_F16C | TERCET_CPU_FMA |
                TERCET_CPU_AVX2 | TERCET_CPU_BMI2;
  uint64_t v4 = v3 | TERCET_CPU_AVX512F | TERCET_CPU_AVX512BW |
                TERCET_CPU_AVX512DQ | TERCET_CPU_AVX512VL;
  EXPECT_EQ(parse("x86-64").cpuFeatures, 0u);
  EXPECT_EQ(parse("x86-64-v2").cpuFeatures, v2);
  EXPECT_EQ(parse("x86-64-v3").cpuFeatures, v3);
  EXPECT_EQ(parse("x86-64-v4").cpuFeatures, v4);
  EXPECT_EQ(parse("x86-64-v3+avxvnni").cpuFeatures, v3 | TERCET_CPU_AVXVNNI);
  EXPECT_EQ(parse("x86-64-v4+avx512vnni+avx512vbmi").cpuFeatures,
            v4 | TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX512VBMI);
}

TEST(ParseTarget, CpuNamesTuneTheirLevel) {
  TargetSpec spec = parse("znver4");
  EXPECT_EQ(spec.text, "znver4");
  EXPECT_EQ(spec.cpu, "x86-64-v4");
  EXPECT_EQ(spec.tuneCpu, "znver4");
  EXPECT_EQ(spec.featureString(), "+avx512vnni,+avx512vbmi");
  EXPECT_EQ(spec.cpuFeatures,
            parse("x86-64-v4+avx512vnni+avx512vbmi").cpuFeatures);
  EXPECT_TRUE(parse("sapphirerapids").has(TERCET_CPU_AVXVNNI));
  EXPECT_EQ(parse("neoverse-n1").triple, "aarch64-unknown-linux-gnu");
  EXPECT_TRUE(parse("neoverse-n1").has(TERCET_CPU_NEON_DOTPROD));
  EXPECT_FALSE(parse("neoverse-n1").has(TERCET_CPU_NEON_I8MM));
}

TEST(ParseTarget, CanonicalTextOfNativeNamesTheSameFeatures) {
  TargetSpec native = parse("native");
  EXPECT_EQ(parse(native.text).cpuFeatures, native.cpuFeatures);
  EXPECT_EQ(parse(native.text).featureString(), native.featureString());
}

TEST(ParseTarget, OtherArchitectures) {
  EXPECT_EQ(parse("aarch64+dotprod+i8mm").featureString(), "+dotprod,+i8mm");
  EXPECT_EQ(parse("riscv64+v").featureString(), "+m,+a,+f,+d,+c,+v");
  EXPECT_EQ(parse("wasm32+simd128").triple, "wasm32-unknown-wasi");
  EXPECT_EQ(parse("x86_64-unknown-linux-gnu").text, "x86-64");
  EXPECT_EQ(parse("aarch64-linux-musl+dotprod").triple,
            "aarch64-unknown-linux-musl");
}

TEST(ParseTarget, ErrorsNameTheNearest) {
  EXPECT_EQ(errorOf("x86-64-v5"),
            "unknown target 'x86-64-v5', nearest is 'x86-64-v4'; `tercet "
            "targets` lists what there is");
  EXPECT_EQ(errorOf("x86-64-v4+avx512vni"),
            "target 'x86-64-v4' has no feature 'avx512vni', nearest is "
            "'avx512vnni'; `tercet targets` lists what there is");
  // None is near, but one begins so.
  EXPECT_EQ(errorOf("wasm32+relaxed"),
            "target 'wasm32' has no feature 'relaxed', nearest is "
            "'relaxed-simd'; `tercet targets` lists what there is");
  EXPECT_EQ(errorOf(""),
            "unknown target ''; `tercet targets` lists what there is");
  EXPECT_NE(errorOf("x86-64-v3,x86-64-v4").find("several targets"),
            std::string::npos);
}
