// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Losses of a classification.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

/// What each label counts: its class's weight, or 0 where the node ignores it.
static Tensor weighLabels(B &b, Tensor labels, Tensor weights, Type type) {
  Value one = b.number(1, type), zero = b.number(0, type);
  bool ignores = b.node()->hasAttr("ignore_index");
  Value ignored = b.number(double(b.getInt("ignore_index", 0)), labels.element);
  return b.generate(b.dims(labels), type, [&](ValueRange i) {
    Value label = b.at(labels, i), weight = one;
    if (weights) {
      Value index = wrapIndex(b, label, b.dim(weights, 0));
      weight = b.castScalar(b.load(b.at(weights, index), weights.element),
                            weights.element, type);
    }
    if (!ignores)
      return weight;
    return b.select(b.compare(Compare::EQ, label, ignored), zero, weight);
  });
}

/// -weight * logs[n, label, ..] for logs [N, C, ..] and labels [N, ..].
static Tensor negateChosen(B &b, Tensor logs, Tensor labels, Tensor weights,
                           Type type) {
  return b.generate(b.dims(labels), type, [&](ValueRange i) {
    B::Values at(i);
    at.insert(at.begin() + 1, wrapIndex(b, b.at(labels, i), b.dim(logs, 1)));
    Value log =
        b.castScalar(b.load(b.at(logs, at), logs.element), logs.element, type);
    // What is ignored is 0 also where the logarithm is infinite.
    Value weight = b.at(weights, i), zero = b.number(0, type);
    return b.select(b.compare(Compare::EQ, weight, zero), zero,
                    b.neg(b.mul(weight, log)));
  });
}

static Tensor sum(B &b, Tensor x) {
  return b.reshape(reduceSum(b, x, llvm::to_vector(llvm::seq(x.rank()))), {});
}

/// The negative log likelihood of `logs`, which are log probabilities, as the
/// node's first result.
static LogicalResult setLoss(B &b, Tensor logs) {
  Tensor labels = b.input(1), weights = b.has(2) ? b.input(2) : Tensor();
  if (logs.rank() < 2 || labels.rank() != logs.rank() - 1)
    return b.error() << "ranks " << logs.rank() << " and " << labels.rank();
  StringRef reduction = b.getString("reduction", "mean");
  Type type = getComputeType(logs.element);
  Tensor counts = weighLabels(b, labels, weights, type);
  Tensor losses = negateChosen(b, logs, labels, counts, type);
  if (reduction == "none")
    return b.result(b.cast(losses, logs.element));
  Tensor total = sum(b, losses);
  if (reduction == "sum")
    return b.result(b.cast(total, logs.element));
  if (reduction != "mean")
    return b.error() << "reduction '" << reduction << "' is not supported";
  FailureOr<Tensor> mean =
      b.elementwise({total, sum(b, counts)}, logs.element,
                    [&](ValueRange v) { return b.div(v[0], v[1]); });
  return failed(mean) ? failure() : b.result(*mean);
}

static LogicalResult lowerNegativeLogLikelihood(B &b) {
  return setLoss(b, b.input(0));
}

static LogicalResult lowerSoftmaxCrossEntropy(B &b) {
  if (b.input(0).rank() < 2)
    return b.error() << "scores without classes";
  Tensor logs = logSoftmax(b, b.input(0), {1});
  if (failed(setLoss(b, logs)))
    return failure();
  return b.result(logs);
}

static const LoweringRow kRows[] = {
    {"NegativeLogLikelihoodLoss", lowerNegativeLogLikelihood},
    {"SoftmaxCrossEntropyLoss", lowerSoftmaxCrossEntropy},
};

ArrayRef<LoweringRow> tercet::getLossLowerings() { return kRows; }
