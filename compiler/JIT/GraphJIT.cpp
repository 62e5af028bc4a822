// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/JIT/GraphJIT.h"
#include "compiler/Emit/EmitObject.h"
#include "dialect/ONNX/ONNX.h"
#include "runtime/src/Graph.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace tercet;
namespace orc = llvm::orc;

extern "C" __bf16 __truncsfbf2(float); // runtime/src/BFloat16.cpp

struct GraphJIT::Impl {
  GraphSignature signature;
  std::string section; ///< `signature` as the runtime reads it.
  PageMemory weights;
  std::unique_ptr<orc::LLJIT> code;
  std::unique_ptr<Graph> graph;
};

GraphJIT::GraphJIT(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
GraphJIT::GraphJIT(GraphJIT &&) = default;
GraphJIT &GraphJIT::operator=(GraphJIT &&) = default;
GraphJIT::~GraphJIT() = default;

const GraphSignature &GraphJIT::signature() const { return impl->signature; }

//===----------------------------------------------------------------------===//
// Compiling
//===----------------------------------------------------------------------===//

static llvm::Error makeWeights(const CompiledModel &model,
                               PageMemory &weights) {
  weights = PageMemory(model.weightsSize);
  if (!weights.data())
    return llvm::createStringError("not enough memory for the weights");
  llvm::MutableArrayRef<uint8_t> bytes(static_cast<uint8_t *>(weights.data()),
                                       model.weightsSize);
  for (const WeightPiece &piece : model.weights)
    if (llvm::Error error = piece.write(bytes.slice(piece.offset, piece.size)))
      return error;
  return llvm::Error::success();
}

/// The runtime and, for f64, the C library are those of this process.
static llvm::Error addRuntime(orc::LLJIT &code) {
  orc::SymbolMap symbols;
  auto add = [&](llvm::StringRef name, auto *function) {
    symbols[code.mangleAndIntern(name)] = {orc::ExecutorAddr::fromPtr(function),
                                           llvm::JITSymbolFlags::Exported |
                                               llvm::JITSymbolFlags::Callable};
  };
  add("tercet_allocate", &tercet_allocate);
  add("tercet_free", &tercet_free);
  add("tercet_fail", &tercet_fail);
  add("tercet_parallel_for", &tercet_parallel_for);
  add("__truncsfbf2", &__truncsfbf2);
  orc::JITDylib &library = code.getMainJITDylib();
  if (llvm::Error error =
          library.define(orc::absoluteSymbols(std::move(symbols))))
    return error;
  auto process = orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      code.getDataLayout().getGlobalPrefix());
  if (!process)
    return process.takeError();
  library.addGenerator(std::move(*process));
  return llvm::Error::success();
}

static llvm::Expected<std::unique_ptr<orc::LLJIT>>
loadObject(llvm::StringRef object) {
  auto code = orc::LLJITBuilder().create();
  if (!code)
    return code.takeError();
  if (llvm::Error error = addRuntime(**code))
    return error;
  if (llvm::Error error = (*code)->addObjectFile(
          llvm::MemoryBuffer::getMemBufferCopy(object, "graph")))
    return error;
  return code;
}

llvm::Expected<GraphJIT> GraphJIT::link(const CompiledModel &model,
                                        const TargetSpec &target,
                                        unsigned numThreads) {
  llvm::Expected<TargetSpec> native = parseTarget("native");
  if (!native)
    return native.takeError();
  if (uint64_t missing = target.cpuFeatures & ~native->cpuFeatures)
    return llvm::createStringError("this machine lacks " +
                                   llvm::join(cpuFeatureNames(missing), ", ") +
                                   " of " + target.text);
  auto impl = std::make_unique<Impl>();
  impl->signature = *model.signature;
  impl->section = impl->signature.encode();
  if (llvm::Error error = makeWeights(model, impl->weights))
    return error;
  auto object = emitCode(*model.module, target, CodeKind::Object);
  if (!object)
    return object.takeError();
  auto code = loadObject(*object);
  if (!code)
    return code.takeError();
  impl->code = std::move(*code);
  auto evaluate = impl->code->lookup("tercet_evaluate");
  if (!evaluate)
    return evaluate.takeError();
  Signature signature;
  if (Error error = Signature::open(impl->section, signature))
    return llvm::createStringError(error.message());
  impl->graph = std::make_unique<Graph>(evaluate->toPtr<Graph::Evaluate>(),
                                        signature, impl->weights.data(),
                                        numThreads, model.scratchSize);
  if (!impl->graph->isValid())
    return llvm::createStringError("not enough memory for the threads");
  return GraphJIT(std::move(impl));
}

llvm::Expected<GraphJIT>
GraphJIT::create(mlir::OwningOpRef<mlir::ModuleOp> module,
                 const CompileOptions &options, unsigned numThreads) {
  ParameterReader reader;
  auto model = runPipeline(std::move(module), options, reader);
  if (!model)
    return model.takeError();
  return link(*model, options.target, numThreads);
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

llvm::Expected<std::vector<HostTensor>>
GraphJIT::run(llvm::ArrayRef<HostTensor> inputs) {
  const Signature &signature = impl->graph->signature();
  if (inputs.size() != signature.inputs().size())
    return llvm::createStringError("expected %zu inputs, not %zu",
                                   signature.inputs().size(), inputs.size());
  std::vector<tercet_graph_tensor> arguments;
  for (auto [type, input] : llvm::zip_equal(signature.inputs(), inputs)) {
    int64_t size;
    if (input.shape.size() != type.rank ||
        !sizeInBytes(type, input.shape.data(), size) ||
        size != int64_t(input.bytes.size()))
      return llvm::createStringError("input %s: not of rank %u, or of another "
                                     "size than its shape",
                                     signature.name(type), type.rank);
    tercet_graph_tensor &argument = arguments.emplace_back();
    argument.data = const_cast<char *>(input.bytes.data());
    llvm::copy(input.shape, argument.shape);
  }
  if (Error error = impl->graph->check(arguments))
    return llvm::createStringError(error.message());
  std::vector<tercet_graph_tensor> outputs(signature.outputs().size());
  if (Error error = impl->graph->run(arguments, outputs))
    return llvm::createStringError(error.message());

  std::vector<HostTensor> results;
  for (auto [type, output] : llvm::zip_equal(signature.outputs(), outputs)) {
    int64_t size;
    if (!sizeInBytes(type, output.shape, size))
      return llvm::createStringError("output %s: shape out of range",
                                     signature.name(type));
    auto *bytes = static_cast<const char *>(output.data);
    results.push_back(
        {llvm::SmallVector<int64_t>(llvm::ArrayRef(output.shape, type.rank)),
         std::vector<char>(bytes, bytes + size)});
  }
  return results;
}

llvm::Expected<llvm::SmallVector<mlir::ElementsAttr>>
tercet::evaluateGraph(mlir::OwningOpRef<mlir::ModuleOp> module) {
  llvm::Expected<TargetSpec> target = parseTarget("native");
  if (!target)
    return target.takeError();
  CompileOptions options;
  options.target = *target;
  auto jit = GraphJIT::create(std::move(module), options);
  if (!jit)
    return jit.takeError();
  auto outputs = jit->run({});
  if (!outputs)
    return outputs.takeError();
  llvm::SmallVector<mlir::ElementsAttr> values;
  for (auto [tensor, output] :
       llvm::zip_equal(jit->signature().outputs, *outputs)) {
    auto type = tensor.type.clone(output.shape);
    values.push_back(onnx::makeElements(type, output.bytes, tensor.name));
  }
  return values;
}
