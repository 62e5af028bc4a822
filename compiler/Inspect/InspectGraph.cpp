// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Inspect/InspectGraph.h"
#include "dialect/ONNX/ONNX.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include <map>

using namespace llvm;
using namespace tercet;
using namespace tercet::onnx;

namespace {

struct GraphTensor {
  std::string name, element;
  bool hasRank = false;
  std::vector<std::string> dims;
};

/// What the recogniser said of a node.
struct Finding {
  std::string node, text;
};

struct GraphReport {
  int64_t irVersion = 0;
  std::map<std::string, int64_t> opsets; ///< by domain, "ai.onnx" first
  std::vector<GraphTensor> inputs, outputs;
  std::map<std::string, int64_t> nodes; ///< by operator
  int64_t numNodes = 0, numConstants = 0, constantBytes = 0;
  std::vector<Finding> findings;
};

} // namespace

//===----------------------------------------------------------------------===//
// Gathering
//===----------------------------------------------------------------------===//

static GraphTensor getTensor(mlir::DictionaryAttr attributes, mlir::Type type) {
  GraphTensor tensor;
  tensor.name = attributes.getAs<mlir::StringAttr>(kNameAttr).str();
  if (auto shaped = dyn_cast<mlir::ShapedType>(type))
    raw_string_ostream(tensor.element) << shaped.getElementType();
  if (auto dims = attributes.getAs<mlir::ArrayAttr>(kDimsAttr)) {
    tensor.hasRank = true;
    for (auto dim : dims.getAsRange<mlir::StringAttr>())
      tensor.dims.push_back(dim.empty() ? "?" : dim.str());
  }
  return tensor;
}

static void addNode(mlir::Operation *op, GraphReport &report) {
  StringRef name = getOpName(op);
  if (op->getName().getStringRef() == kConstantOp) {
    auto type = cast<mlir::ShapedType>(op->getResult(0).getType());
    ++report.numConstants;
    report.constantBytes +=
        divideCeil(type.getNumElements() * type.getElementTypeBitWidth(), 8);
  } else if (op->hasAttr(kVersionAttr)) {
    ++report.numNodes;
    ++report.nodes[name.str()];
    StringRef domain = name.contains('.') ? name.rsplit('.').first : "ai.onnx";
    report.opsets[domain.str()] = getVersion(op);
  }
}

static GraphReport gather(mlir::ModuleOp module) {
  GraphReport report;
  report.irVersion = getInt(module, kIRVersionAttr, 0);
  auto graph = module.lookupSymbol<mlir::func::FuncOp>(kGraphName);
  for (auto [index, type] : enumerate(graph.getArgumentTypes()))
    report.inputs.push_back(getTensor(graph.getArgAttrDict(index), type));
  for (auto [index, type] : enumerate(graph.getResultTypes()))
    report.outputs.push_back(getTensor(graph.getResultAttrDict(index), type));
  graph.walk([&](mlir::Operation *op) { addNode(op, report); });
  return report;
}

/// The recogniser's remarks, in the order of the nodes.
static Error addFindings(mlir::ModuleOp module, RecognizeGraph recognize,
                         GraphReport &report) {
  mlir::ScopedDiagnosticHandler handler(
      module.getContext(), [&](mlir::Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() != mlir::DiagnosticSeverity::Remark)
          return mlir::failure();
        auto name = dyn_cast<mlir::NameLoc>(diagnostic.getLocation());
        report.findings.push_back(
            {name ? name.getName().str() : "", diagnostic.str()});
        return mlir::success();
      });
  return recognize(module);
}

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

static void printTensors(StringRef title, ArrayRef<GraphTensor> tensors,
                         raw_ostream &os) {
  for (const GraphTensor &tensor : tensors)
    os << formatv("{0,-10} {1} {2}{3}\n", title, tensor.name, tensor.element,
                  tensor.hasRank ? "[" + join(tensor.dims, ", ") + "]" : "");
}

static void printText(const GraphReport &report, raw_ostream &os) {
  os << formatv("model:     ONNX graph, IR version {0}", report.irVersion);
  for (const auto &[domain, version] : report.opsets)
    os << ", " << domain << " " << version;
  os << "\n";
  printTensors("input:", report.inputs, os);
  printTensors("output:", report.outputs, os);
  os << formatv("constants: {0}, {1:F1} KB\n", report.numConstants,
                report.constantBytes / 1e3);
  os << formatv("nodes:     {0}\n", report.numNodes);
  for (const auto &[name, count] : report.nodes)
    os << formatv("  {0,6} {1}\n", count, name);
  if (!report.findings.empty())
    os << "\n";
  for (const Finding &finding : report.findings)
    os << finding.node << ": " << finding.text << "\n";
}

static void printTensorsJSON(StringRef title, ArrayRef<GraphTensor> tensors,
                             json::OStream &out) {
  out.attributeArray(title, [&] {
    for (const GraphTensor &tensor : tensors)
      out.object([&] {
        out.attribute("name", tensor.name);
        out.attribute("element", tensor.element);
        if (tensor.hasRank)
          out.attribute("dims", json::Array(tensor.dims));
      });
  });
}

static void printJSON(const GraphReport &report, raw_ostream &os) {
  json::OStream out(os, /*IndentSize=*/2);
  out.object([&] {
    out.attribute("format", "onnx");
    out.attribute("ir_version", report.irVersion);
    out.attributeObject("opsets", [&] {
      for (const auto &[domain, version] : report.opsets)
        out.attribute(domain, version);
    });
    printTensorsJSON("inputs", report.inputs, out);
    printTensorsJSON("outputs", report.outputs, out);
    out.attribute("constants", report.numConstants);
    out.attribute("constant_bytes", report.constantBytes);
    out.attributeObject("nodes", [&] {
      for (const auto &[name, count] : report.nodes)
        out.attribute(name, count);
    });
    out.attributeArray("bit_linear", [&] {
      for (const Finding &finding : report.findings)
        out.object([&] {
          out.attribute("node", finding.node);
          out.attribute("remark", finding.text);
        });
    });
  });
  os << "\n";
}

Error tercet::inspectGraph(mlir::ModuleOp module, RecognizeGraph recognize,
                           bool json, raw_ostream &os) {
  GraphReport report = gather(module);
  if (Error error = addFindings(module, recognize, report))
    return error;
  json ? printJSON(report, os) : printText(report, os);
  return Error::success();
}
