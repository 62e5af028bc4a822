// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/emit/TestModule.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Object/ELFObjectFile.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::test;

static bool contains(StringRef text, StringRef part) {
  return text.contains(part);
}

TEST(EmitObject, EveryArchitecture) {
  struct {
    StringRef target;
    unsigned machine;
  } cases[] = {{"x86-64-v3", ELF::EM_X86_64},
               {"aarch64+dotprod", ELF::EM_AARCH64},
               {"riscv64+v", ELF::EM_RISCV}};
  for (auto [target, machine] : cases) {
    SmallString<0> object = emit(kLastByteProgram, target, CodeKind::Object);
    ASSERT_EQ(identify_magic(object), file_magic::elf_relocatable);
    auto file = cantFail(
        object::ObjectFile::createObjectFile(MemoryBufferRef(object, "")));
    EXPECT_EQ(cast<object::ELFObjectFileBase>(*file).getEMachine(), machine);
  }
  EXPECT_EQ(identify_magic(
                emit(kLastByteProgram, "wasm32+simd128", CodeKind::Object)),
            file_magic::wasm_object);
}

TEST(EmitObject, LoopsAreVectorisedForTheTarget) {
  StringRef source = R"mlir(
    llvm.func @add(%a: !llvm.ptr {llvm.noalias}, %b: !llvm.ptr {llvm.noalias}) {
      %zero = llvm.mlir.constant(0 : i64) : i64
      %one = llvm.mlir.constant(1 : i64) : i64
      %end = llvm.mlir.constant(4096 : i64) : i64
      llvm.br ^loop(%zero : i64)
    ^loop(%i: i64):
      %at_a = llvm.getelementptr %a[%i] : (!llvm.ptr, i64) -> !llvm.ptr, i32
      %at_b = llvm.getelementptr %b[%i] : (!llvm.ptr, i64) -> !llvm.ptr, i32
      %x = llvm.load %at_a : !llvm.ptr -> i32
      %y = llvm.load %at_b : !llvm.ptr -> i32
      %sum = llvm.add %x, %y : i32
      llvm.store %sum, %at_a : i32, !llvm.ptr
      %next = llvm.add %i, %one : i64
      %more = llvm.icmp "ult" %next, %end : i64
      llvm.cond_br %more, ^loop(%next : i64), ^done
    ^done:
      llvm.return
    })mlir";
  EXPECT_TRUE(contains(emit(source, "x86-64-v3", CodeKind::Assembly), "%ymm"));
  EXPECT_TRUE(contains(emit(source, "aarch64", CodeKind::Assembly), ".4s"));
  EXPECT_TRUE(
      contains(emit(source, "x86-64-v3", CodeKind::LLVMIR), "<8 x i32>"));
}

// docs/numerics.md: a product and a sum stay two roundings.
TEST(EmitObject, FloatsAreNotFused) {
  StringRef source = R"mlir(
    llvm.func @multiply_add(%a: f32, %b: f32, %c: f32) -> f32 {
      %product = llvm.fmul %a, %b : f32
      %sum = llvm.fadd %product, %c : f32
      llvm.return %sum : f32
    })mlir";
  EXPECT_FALSE(
      contains(emit(source, "x86-64-v3", CodeKind::Assembly), "vfmadd"));
  EXPECT_FALSE(contains(emit(source, "aarch64", CodeKind::Assembly), "fmadd"));
}
