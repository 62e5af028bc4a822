// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the forms of attention, ONNX's and onnxruntime's, are made of. Tensors
// are [B, H, S, D]: batch, heads, tokens, features.

#ifndef TERCET_COMPILER_CONVERSION_LOWERONNX_ATTENTION_H
#define TERCET_COMPILER_CONVERSION_LOWERONNX_ATTENTION_H

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"

namespace tercet {

/// [B, S, H * D] as [B, H, S, D].
Tensor splitHeads(GraphBuilder &b, Tensor x, Dim numHeads);
/// [B, H, S, D] as [B, S, H * D].
Tensor mergeHeads(GraphBuilder &b, Tensor x);

/// What scores are multiplied by: attribute `scale`, or as wide heads want it.
llvm::FailureOr<double> getScale(GraphBuilder &b, Dim headDim);

/// scale * q k', [B, H, S, T], of compute type. Neighbouring heads of q share
/// one of k.
llvm::FailureOr<Tensor> scoreKeys(GraphBuilder &b, Tensor q, Tensor k,
                                  double scale);

/// limit * tanh(scores / limit), with attribute `softcap` the limit.
Tensor capScores(GraphBuilder &b, Tensor scores);

/// The softmax of scores over keys; zeros for a query that sees none, all its
/// scores being -inf. A `sink`, [1, H, 1, 1], is the score of a key beside them
/// whose value is zero; it may be missing.
Tensor weighKeys(GraphBuilder &b, Tensor scores, Tensor sink = {});

/// weights [B, H, S, T] times v, of compute type.
llvm::FailureOr<Tensor> mixValues(GraphBuilder &b, Tensor weights, Tensor v);

/// Rotates pairs of the first `width` features of x, which are neighbours or
/// halves apart, by angles of a table: of the positions [B, S], or of each
/// token.
Tensor rotate(GraphBuilder &b, Tensor x, Tensor positions, Tensor cosines,
              Tensor sines, Dim width, bool isInterleaved);

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERONNX_ATTENTION_H
