// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_TD
#define TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_TD

include "mlir/Pass/PassBase.td"

def DropStraightThrough : Pass<"drop-straight-through"> {
  let summary = "Replace x + (q - x) by q, where q is a quantised value";
  let description = [{
    What a straight-through estimator of training leaves in a graph, in any order
    of its operands. `Identity` goes too, so that the same value is the same
    operand.
  }];
}

def RecognizeBitLinear : Pass<"recognize-bit-linear"> {
  let summary = "Make every BitLinear one node";
  let description = [{
    A matrix product of activations that are quantised by their absmax and weights
    that are ternary becomes

    ```mlir
    %y = "onnx.ternary.bit_linear"(%x) {trits = dense<..> : tensor<512x784xi2>,
                                        scales = dense<0.5> : tensor<f32>}
    ```

    with the semantics of `ternary.bit_linear` on the last axis of x, which may have
    any rank: ranks are known only when nodes are lowered. With `group`, scales are
    [M, groups]. `axis`, if present, is the number of x's last axis that the graph
    relies on.

    A graph that computes anything else in real arithmetic stays as it is. Remarks
    say what was recognised, and why something close to it was not.
  }];
}

#endif // TERCET_COMPILER_CONVERSION_RECOGNIZEBITLINEAR_TD
