// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "tests/conversion/EmulatedKernel.h"

#include "compiler/Emit/EmitObject.h"
#include "tercet/artifact.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/TargetParser/Triple.h"

#include <cstring>

using namespace llvm;
using namespace tercet;

namespace {

struct Machine {
  Triple::ArchType arch;
  uint64_t features; ///< that its CPU has
  StringRef emulator;
  StringRef cpu; ///< of qemu
};

// The oldest first within an architecture; those of equal features in a row.
constexpr Machine kMachines[] = {
    {Triple::aarch64, 0, "qemu-aarch64", "cortex-a72"},
    {Triple::aarch64, TERCET_CPU_NEON_DOTPROD, "qemu-aarch64", "neoverse-n1"},
    {Triple::aarch64, TERCET_CPU_NEON_DOTPROD | TERCET_CPU_NEON_I8MM,
     "qemu-aarch64", "max,sve=off"},
    {Triple::riscv64, TERCET_CPU_RVV, "qemu-riscv64",
     "rv64,v=true,vlen=128,vext_spec=v1.0"},
    {Triple::riscv64, TERCET_CPU_RVV, "qemu-riscv64",
     "rv64,v=true,vlen=256,vext_spec=v1.0"},
    {Triple::wasm32, 0, "node", ""},
};

struct Runner {
  StringRef triple, file;
};

/// KernelRunner.c as an object for each architecture whose C library was found;
/// KernelRunner.mjs for WebAssembly.
constexpr Runner kRunners[] = {
#include "tests/conversion/KernelRunners.inc"
};

/// Bytes of a known value before, between and behind memrefs.
constexpr int64_t kGuardSizeInBytes = 256;
constexpr uint8_t kGuard = 0xa5;

} // namespace

/// The oldest that have the features of a target.
static ArrayRef<Machine> findMachines(const TargetSpec &target) {
  ArrayRef<Machine> machines =
      ArrayRef(kMachines).drop_until([&](const Machine &m) {
        return m.arch == Triple(target.triple).getArch() &&
               (target.cpuFeatures & ~m.features) == 0;
      });
  return machines.take_while([&](const Machine &m) {
    return m.arch == machines[0].arch && m.features == machines[0].features;
  });
}

static const Runner *findRunner(const TargetSpec &target) {
  const Runner *runner = find_if(kRunners, [&](const Runner &r) {
    return Triple(r.triple).getArch() == Triple(target.triple).getArch();
  });
  return runner == std::end(kRunners) ? nullptr : runner;
}

bool EmulatedKernel::isAvailable(const TargetSpec &target) {
  ArrayRef<Machine> machines = findMachines(target);
  return !machines.empty() && findRunner(target) &&
         sys::findProgramByName(machines[0].emulator);
}

static Error execute(ArrayRef<std::string> command) {
  std::string error;
  int status = sys::ExecuteAndWait(
      command[0], to_vector_of<StringRef>(command), /*Env=*/std::nullopt,
      /*Redirects=*/{}, /*SecondsToWait=*/0, /*MemoryLimit=*/0, &error);
  if (status == 0)
    return Error::success();
  return createStringError(command[0] + " ended with " + Twine(status) + " " +
                           error);
}

/// Adds to a module what KernelRunner calls, which knows no signatures:
///   kernel_arguments(%words) calls @_mlir_ciface_kernel(%words[0], ...)
static void addKernelArguments(mlir::ModuleOp module) {
  using namespace mlir;
  auto kernel = module.lookupSymbol<LLVM::LLVMFuncOp>("_mlir_ciface_kernel");
  ImplicitLocOpBuilder b(kernel.getLoc(), module.getContext());
  b.setInsertionPointToEnd(module.getBody());
  auto pointer = LLVM::LLVMPointerType::get(b.getContext());
  auto function = LLVM::LLVMFuncOp::create(
      b, "kernel_arguments",
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(b.getContext()),
                                  {pointer}));
  Block *entry = function.addEntryBlock(b);
  b.setInsertionPointToEnd(entry);
  SmallVector<Value> arguments;
  for (auto [number, type] : llvm::enumerate(kernel.getArgumentTypes())) {
    Value address =
        LLVM::GEPOp::create(b, pointer, b.getI64Type(), entry->getArgument(0),
                            ArrayRef<LLVM::GEPArg>{int32_t(number)});
    Value word = LLVM::LoadOp::create(b, b.getI64Type(), address);
    if (type == pointer)
      word = LLVM::IntToPtrOp::create(b, pointer, word);
    arguments.push_back(word);
  }
  LLVM::CallOp::create(b, kernel, arguments);
  LLVM::ReturnOp::create(b, ValueRange());
}

Expected<EmulatedKernel> EmulatedKernel::load(mlir::ModuleOp module,
                                              const TargetSpec &target) {
  addKernelArguments(module);
  auto code = emitCode(module, target, CodeKind::Object);
  if (!code)
    return code.takeError();
  auto object = ScratchFile::create("kernel.o", *code);
  if (!object)
    return object.takeError();
  auto program = ScratchFile::create("kernel", "");
  if (!program)
    return program.takeError();
  const Runner &runner = *findRunner(target);
  bool isWasm = Triple(target.triple).isWasm();
  Command linker = {TERCET_CROSS_COMPILER, "--target=" + runner.triple.str(),
                    object->path(), "-o", program->path()};
  if (isWasm)
    append_range(linker,
                 std::array{"-Wno-deprecated", "-nostartfiles",
                            "-Wl,--no-entry", "-Wl,--export=kernel_arguments",
                            "-Wl,--export=__heap_base",
                            // As of an artifact (compiler/Emit/Link.cpp).
                            "-Wl,-z,stack-size=1048576"});
  else
    append_range(linker, std::array<StringRef, 3>{"-fuse-ld=lld", "-static",
                                                  runner.file});
  if (Error error = execute(linker))
    return std::move(error);

  std::vector<Command> emulators;
  for (const Machine &machine : findMachines(target)) {
    Command &command = emulators.emplace_back();
    command.push_back(*sys::findProgramByName(machine.emulator));
    if (isWasm)
      command.push_back(runner.file.str());
    else
      append_range(command, std::array<StringRef, 2>{"-cpu", machine.cpu});
  }
  return EmulatedKernel(std::move(emulators), std::move(*program));
}

int64_t KernelArgument::getSizeInBytes() const {
  int64_t last = 0;
  for (auto [size, stride] : zip_equal(sizes, strides)) {
    if (size == 0)
      return 0;
    last += (size - 1) * stride;
  }
  return (last + 1) * elementSizeInBytes;
}

/// The file that KernelRunner.c reads, and where it has the data of each
/// argument.
static std::pair<std::vector<uint8_t>, std::vector<int64_t>>
writeArguments(ArrayRef<KernelArgument> arguments) {
  constexpr int64_t kAlignment = 64;
  int64_t numWords = 1;
  for (const KernelArgument &argument : arguments)
    numWords += 2 + argument.sizes.size() + argument.strides.size();
  int64_t end = numWords * sizeof(int64_t) + kGuardSizeInBytes;
  std::vector<int64_t> words = {int64_t(arguments.size())}, offsets;
  for (const KernelArgument &argument : arguments) {
    end = alignTo(end, kAlignment);
    offsets.push_back(end);
    if (!argument.isMemRef()) {
      append_range(words, std::array<int64_t, 2>{-1, argument.value});
      continue;
    }
    append_range(words,
                 std::array<int64_t, 2>{int64_t(argument.sizes.size()), end});
    append_range(words, argument.sizes);
    append_range(words, argument.strides);
    end += argument.getSizeInBytes() + kGuardSizeInBytes;
  }
  std::vector<uint8_t> file(end, kGuard);
  std::memcpy(file.data(), words.data(), words.size() * sizeof(int64_t));
  for (auto [argument, offset] : zip_equal(arguments, offsets))
    if (int64_t size = argument.isMemRef() ? argument.getSizeInBytes() : 0)
      std::memcpy(file.data() + offset, argument.data, size);
  return {std::move(file), std::move(offsets)};
}

/// Takes the data back, and looks at what is between it.
static void readArguments(ArrayRef<KernelArgument> arguments,
                          ArrayRef<int64_t> offsets, StringRef file) {
  for (auto [argument, offset] : zip_equal(arguments, offsets)) {
    if (!argument.isMemRef())
      continue;
    int64_t size = argument.getSizeInBytes();
    if (size > 0)
      std::memcpy(argument.data, file.data() + offset, size);
    StringRef behind = file.substr(offset + size, kGuardSizeInBytes);
    if (any_of(behind, [](char byte) { return uint8_t(byte) != kGuard; }))
      report_fatal_error("a kernel writes behind a memref");
  }
}

/// The file of arguments as a program left it.
static std::unique_ptr<MemoryBuffer>
runWithArguments(std::vector<std::string> command, StringRef program,
                 StringRef arguments) {
  ScratchFile file = cantFail(ScratchFile::create("arguments", arguments));
  append_range(command, std::array<StringRef, 2>{program, file.path()});
  if (Error error = execute(command))
    report_fatal_error(std::move(error));
  return cantFail(errorOrToExpected(
      MemoryBuffer::getFile(file.path(), /*IsText=*/false,
                            /*RequiresNullTerminator=*/false)));
}

void EmulatedKernel::run(ArrayRef<KernelArgument> arguments) const {
  auto [bytes, offsets] = writeArguments(arguments);
  std::unique_ptr<MemoryBuffer> first;
  for (const Command &emulator : emulators) {
    auto result = runWithArguments(emulator, program.path(),
                                   toStringRef(ArrayRef(bytes)));
    if (!first)
      first = std::move(result);
    else if (result->getBuffer() != first->getBuffer())
      report_fatal_error("a kernel depends on the length of vectors");
  }
  readArguments(arguments, offsets, first->getBuffer());
}
