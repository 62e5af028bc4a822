// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators of transformers, and contractions in general.

#include "compiler/Conversion/LowerONNX/Attention.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/MapVector.h"

#include <cmath>
#include <map>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

Tensor tercet::splitHeads(B &b, Tensor x, Dim numHeads) {
  Dims dims = b.dims(x);
  Tensor split =
      b.reshape(x, {dims[0], dims[1], numHeads, b.div(dims[2], numHeads)});
  return b.transpose(split, {0, 2, 1, 3});
}

Tensor tercet::mergeHeads(B &b, Tensor x) {
  Tensor moved = b.transpose(x, {0, 2, 1, 3});
  Dims dims = b.dims(moved);
  return b.reshape(moved, {dims[0], dims[1], b.mul(dims[2], dims[3])});
}

/// The same where x has not that form already.
static FailureOr<Tensor> splitHeads(B &b, Tensor x, StringRef numHeads) {
  if (x.rank() == 4)
    return x;
  int64_t heads = b.getInt(numHeads, 0);
  if (x.rank() != 3 || heads < 1)
    return b.error() << "an operand is neither [B, H, S, D] nor, with "
                     << numHeads << ", [B, S, H * D]";
  return splitHeads(b, x, b.dim(heads));
}

FailureOr<double> tercet::getScale(B &b, Dim headDim) {
  double scale = b.getFloat("scale", 0);
  if (scale != 0)
    return scale;
  std::optional<int64_t> width = getConstantIntValue(headDim);
  if (!width)
    return b.error() << "heads of unknown width are not supported";
  return 1 / std::sqrt(double(*width));
}

/// x [B, G * H, S, D] times y [B, H, D, E]; the heads of a group are rows.
static FailureOr<Tensor> multiplyHeads(B &b, Tensor x, Tensor y, Type type) {
  Dims dims = b.dims(x);
  Dim heads = b.dim(y, 1);
  bool isGrouped = heads != dims[1];
  if (isGrouped) {
    std::optional<int64_t> many = getConstantIntValue(dims[1]),
                           few = getConstantIntValue(heads);
    if (many && few && (*few == 0 || *many % *few != 0))
      return b.error() << *many << " heads of queries are no multiple of "
                       << *few << " of keys";
    Dim group = b.div(dims[1], heads);
    b.requireEqual(b.mul(group, heads), dims[1],
                   "heads of queries are no multiple of those of keys");
    x = b.reshape(x, {dims[0], heads, b.mul(group, dims[2]), dims[3]});
  }
  FailureOr<Tensor> product = matmul(b, x, y, type);
  if (failed(product) || !isGrouped)
    return product;
  return b.reshape(*product, {dims[0], dims[1], dims[2], b.dim(y, 3)});
}

FailureOr<Tensor> tercet::scoreKeys(B &b, Tensor q, Tensor k, double scale) {
  Type type = getComputeType(q.element);
  FailureOr<Tensor> scores =
      multiplyHeads(b, q, b.transpose(k, {0, 1, 3, 2}), type);
  if (failed(scores))
    return failure();
  return b.map(*scores, type, [&](ValueRange x) {
    return b.mul(x[0], b.number(scale, type));
  });
}

Tensor tercet::capScores(B &b, Tensor scores) {
  double softcap = b.getFloat("softcap", 0);
  if (softcap == 0)
    return scores;
  Type type = scores.element;
  return b.map(scores, type, [&](ValueRange x) -> Value {
    Value limit = b.number(softcap, type);
    return b.mul(math::TanhOp::create(b, b.div(x[0], limit)), limit);
  });
}

/// Softmax over the last dimension and a sink that is no part of the result.
static Tensor softmaxWithSink(B &b, Tensor scores, Tensor sink) {
  Type type = scores.element;
  Tensor greatest = b.combine(reduceMax(b, scores, {3}), sink, type,
                              [&](ValueRange v) { return b.max(v[0], v[1]); });
  auto power = [&](ValueRange v) { return b.exp(b.sub(v[0], v[1])); };
  Tensor powers = b.combine(scores, greatest, type, power);
  Tensor sum = b.combine(reduceSum(b, powers, {3}),
                         b.combine(sink, greatest, type, power), type,
                         [&](ValueRange v) { return b.add(v[0], v[1]); });
  return b.combine(powers, sum, type,
                   [&](ValueRange v) { return b.div(v[0], v[1]); });
}

Tensor tercet::weighKeys(B &b, Tensor scores, Tensor sink) {
  if (sink)
    return softmaxWithSink(b, scores, sink);
  Type type = scores.element;
  return b.combine(softmax(b, scores, {3}), reduceMax(b, scores, {3}), type,
                   [&](ValueRange x) {
                     Value isUnseen = b.compare(Compare::EQ, x[1],
                                                b.number(-INFINITY, type));
                     return b.select(isUnseen, b.number(0, type), x[0]);
                   });
}

FailureOr<Tensor> tercet::mixValues(B &b, Tensor weights, Tensor v) {
  Type type = weights.element;
  return multiplyHeads(b, weights, b.cast(v, type), type);
}

/// softmax(scale * q k' + mask) v, in f32.
static LogicalResult lowerAttention(B &b) {
  bool isMerged = b.input(0).rank() == 3;
  if (b.has(4) != b.has(5))
    return b.error() << "past keys without past values, or these without those";
  FailureOr<Tensor> q = splitHeads(b, b.input(0), "q_num_heads"),
                    k = splitHeads(b, b.input(1), "kv_num_heads"),
                    v = splitHeads(b, b.input(2), "kv_num_heads");
  if (failed(q) || failed(k) || failed(v))
    return failure();
  Type element = q->element, type = getComputeType(element);
  Dim past = b.dim(0);
  if (b.has(4)) {
    past = b.dim(b.input(4), 2);
    k = b.concat({b.input(4), *k}, 2);
    v = b.concat({b.input(5), *v}, 2);
  }
  Dims dims = b.dims(*q);
  int64_t mode = b.getInt("qk_matmul_output_mode", 0);
  FailureOr<double> scale = getScale(b, dims[3]);
  if (failed(scale))
    return failure();
  FailureOr<Tensor> scaled = scoreKeys(b, *q, *k, *scale);
  if (failed(scaled))
    return failure();
  Tensor capped = capScores(b, *scaled);
  Tensor mask = b.has(3) ? b.input(3) : Tensor();
  bool isCausal = b.getInt("is_causal", 0);
  int64_t left = b.getInt("left_window_size", -1),
          right = b.getInt("right_window_size", -1);
  Value minimum = b.number(-INFINITY, type);
  Tensor masked = capped;
  if (mask) {
    // Keys that the mask does not reach are not seen.
    if (mask.rank() > 0) {
      Dims none(mask.rank(), b.dim(0)), after = none;
      after.back() =
          b.max(b.sub(b.dim(*k, 2), b.dim(mask, mask.rank() - 1)), b.dim(0));
      mask = b.pad(mask, none, after,
                   mask.element.isInteger(1)
                       ? b.number(0, getStorageType(mask.element))
                       : b.lowest(mask.element));
    }
    FailureOr<Tensor> sum =
        b.elementwise({masked, mask}, type, [&](ValueRange x) -> Value {
          if (mask.element.isInteger(1))
            return b.select(x[1], x[0], minimum);
          return b.add(x[0], b.castScalar(x[1], mask.element, type));
        });
    if (failed(sum))
      return failure();
    masked = *sum;
  }
  // How many keys of a sequence are no padding.
  auto countKeys = [&](Value sequence) {
    return b.toIndex(b.at(b.input(6), sequence));
  };
  auto keepIf = [&](Compare predicate, int64_t keyOffset, int64_t queryOffset) {
    masked = b.generate(b.dims(masked), type, [&](ValueRange i) {
      // With padding the queries are those of the last keys before it.
      Value before =
          b.has(6) ? b.sub(countKeys(i[0]), b.index(dims[2])) : b.index(past);
      Value query = b.add(b.add(i[2], before), b.index(queryOffset));
      Value key = b.add(i[3], b.index(keyOffset));
      return b.select(b.compare(predicate, key, query), b.at(masked, i),
                      minimum);
    });
  };
  if (b.has(6))
    masked = b.generate(b.dims(masked), type, [&](ValueRange i) {
      return b.select(b.compare(Compare::LT, i[3], countKeys(i[0])),
                      b.at(masked, i), minimum);
    });
  if (isCausal)
    keepIf(Compare::LE, 0, 0);
  if (left >= 0)
    keepIf(Compare::GE, left, 0);
  if (right >= 0)
    keepIf(Compare::LE, 0, right);
  Tensor weights = weighKeys(b, masked);
  FailureOr<Tensor> output = mixValues(b, weights, *v);
  if (failed(output))
    return failure();
  output = b.cast(*output, element);
  (void)b.result(isMerged ? mergeHeads(b, *output) : *output);
  (void)b.result(*k);
  (void)b.result(*v);
  Tensor shown[] = {*scaled, capped, masked, weights};
  if (mode < 0 || mode > 3)
    return b.error() << "qk_matmul_output_mode " << mode << " is not supported";
  return b.result(b.cast(shown[mode], element));
}

Tensor tercet::rotate(B &b, Tensor x, Tensor positions, Tensor cosines,
                      Tensor sines, Dim width, bool isInterleaved) {
  bool hasPositions = bool(positions);
  Type type = getComputeType(x.element);
  Dims dims = b.dims(x);
  Dim half = b.div(width, b.dim(2));
  auto requireWithin = [&](Dim extent, Dim limit, StringRef message) {
    b.require(b.compare(Compare::LE, b.index(extent), b.index(limit)), message);
  };
  requireWithin(width, dims[3], "more features rotate than a head has");
  requireWithin(half, b.dims(cosines).back(), "there are too few cosines");
  for (auto [a, c] : llvm::zip(b.dims(cosines), b.dims(sines)))
    b.requireEqual(a, c, "cosines and sines differ in shape");
  return b.generate(dims, x.element, [&](ValueRange i) {
    Value feature = i[3], halfWidth = b.index(half), two = b.index(2);
    Value pair, isSecond, partner;
    if (isInterleaved) {
      pair = b.createOrFold<arith::DivUIOp>(feature, two);
      isSecond =
          b.compare(Compare::EQ, b.createOrFold<arith::RemUIOp>(feature, two),
                    b.index(1));
      partner = b.select(isSecond, b.sub(feature, b.index(1)),
                         b.add(feature, b.index(1)));
    } else {
      isSecond = b.compare(Compare::GE, feature, halfWidth);
      pair = b.select(isSecond, b.sub(feature, halfWidth), feature);
      partner = b.select(isSecond, pair, b.add(feature, halfWidth));
    }
    // Features beyond the rotated ones stay; they read something that exists.
    Value isRotated = b.compare(Compare::LT, feature, b.index(width));
    Value zero = b.index(0);
    pair = b.select(isRotated, pair, zero);
    partner = b.select(isRotated, partner, zero);
    Values row;
    if (hasPositions) {
      Value position = b.toIndex(b.at(positions, {i[0], i[2]}));
      Value last = b.index(b.sub(b.dim(cosines, 0), b.dim(1)));
      position = b.createOrFold<arith::MaxSIOp>(position, zero);
      row = {b.createOrFold<arith::MinSIOp>(position, last), pair};
    } else {
      row = {i[0], i[2], pair};
    }
    auto load = [&](Tensor tensor, ValueRange at) {
      return b.castScalar(b.load(b.at(tensor, at), tensor.element),
                          tensor.element, type);
    };
    Value value = load(x, i), other = load(x, {i[0], i[1], i[2], partner});
    Value cosine = load(cosines, row), sine = load(sines, row);
    Value shifted = b.mul(other, sine), kept = b.mul(value, cosine);
    Value turned =
        b.select(isSecond, b.add(kept, shifted), b.sub(kept, shifted));
    return b.store(b.select(isRotated, turned, value), x.element);
  });
}

/// The same as the node's attributes say.
static Tensor rotate(B &b, Tensor x, Tensor positions, Tensor cosines,
                     Tensor sines) {
  int64_t rotated = b.getInt("rotary_embedding_dim", 0);
  return rotate(b, x, positions, cosines, sines,
                rotated > 0 ? b.dim(rotated) : b.dim(x, 3),
                b.getInt("interleaved", 0));
}

static LogicalResult lowerRotaryEmbedding(B &b) {
  bool isMerged = b.input(0).rank() == 3;
  FailureOr<Tensor> x = splitHeads(b, b.input(0), "num_heads");
  if (failed(x))
    return failure();
  Tensor positions = b.has(3) ? b.input(3) : Tensor();
  for (unsigned i : {1, 2})
    if (int64_t rank = positions ? 2 : 3; b.input(i).rank() != rank)
      return b.error() << "cosines or sines are not of rank " << rank;
  Tensor result = rotate(b, *x, positions, b.input(1), b.input(2));
  return b.result(isMerged ? mergeHeads(b, result) : result);
}

/// That of com.microsoft: heads may follow from the width of the table, and one
/// position be that of the first token.
static LogicalResult lowerMicrosoftRotaryEmbedding(B &b) {
  Tensor x = b.input(0), positions = b.input(1);
  if (b.getInt("is_packed_batching", 0) || b.getFloat("scale", 1) != 1)
    return b.error() << "packed batches and scales are not supported";
  bool isMerged = x.rank() == 3;
  if (isMerged) {
    Dims dims = b.dims(x);
    int64_t heads = b.getInt("num_heads", 0);
    if (!heads && b.getInt("rotary_embedding_dim", 0))
      return b.error() << "rotary_embedding_dim needs num_heads";
    Dim width = heads ? b.div(dims[2], b.dim(heads))
                      : b.mul(b.dim(b.input(2), 1), b.dim(2));
    Dim numHeads = heads ? b.dim(heads) : b.div(dims[2], width);
    x = splitHeads(b, x, numHeads);
  }
  if (positions.rank() == 1) {
    b.requireEqual(b.dim(positions, 0), b.dim(1),
                   "positions are neither one nor one a token");
    Tensor first = positions;
    positions = b.generate({b.dim(x, 0), b.dim(x, 2)}, first.element,
                           [&](ValueRange i) {
                             Value token = b.createOrFold<arith::IndexCastOp>(
                                 getStorageType(first.element), i[1]);
                             return b.add(b.at(first, b.index(0)), token);
                           });
  }
  Tensor result = rotate(b, x, positions, b.input(2), b.input(3));
  return b.result(isMerged ? mergeHeads(b, result) : result);
}

//===----------------------------------------------------------------------===//
// LinearAttention
//===----------------------------------------------------------------------===//

/// One step of time after another: a state [B, H, K, V] of each head of the
/// keys decays, is corrected by what it holds for the key already, and gets the
/// outer product of key and value; queries [B, H, G, K] of a group of heads
/// read it.
static LogicalResult lowerLinearAttention(B &b) {
  Tensor query = b.input(0), value = b.input(2);
  int64_t queryHeads = b.getInt("q_num_heads", 0),
          heads = b.getInt("kv_num_heads", 0);
  StringRef rule = b.getString("update_rule", "gated_delta");
  bool isGated = rule.starts_with("gated"), isDelta = rule.ends_with("delta");
  if (!isGated && !isDelta && rule != "linear")
    return b.error() << "update_rule '" << rule << "' is not supported";
  if (query.rank() != 3 || heads < 1 || queryHeads % heads != 0 ||
      isGated != b.has(4) || isDelta != b.has(5))
    return b.error() << "operands and attributes do not fit";
  for (unsigned i : {1, 2, 4, 5})
    if (b.has(i) &&
        failed(verifyCompatibleShape(b.input(i).type().getShape().take_front(2),
                                     query.type().getShape().take_front(2))))
      return b.error() << "operands differ in batch or time";
  if (query.size(2) == 0)
    return b.error() << "heads without elements";
  Type f32 = b.getF32Type();
  Dim batch = b.dim(query, 0), steps = b.dim(query, 1), numHeads = b.dim(heads),
      group = b.dim(queryHeads / heads),
      keyDim = b.div(b.dim(query, 2), b.dim(queryHeads)),
      valueDim = b.div(b.dim(value, 2), numHeads);
  double scale = b.getFloat("scale", 0);
  if (scale == 0) {
    std::optional<int64_t> width = getConstantIntValue(keyDim);
    if (!width)
      return b.error() << "heads of unknown width are not supported";
    scale = 1 / std::sqrt(double(*width));
  }
  // Operands [B, T, ..] of one step, as [B, ..].
  auto prepare = [&](unsigned index, Dims shape) {
    shape.insert(shape.begin(), {batch, steps});
    return b.reshape(b.cast(b.input(index), f32), shape);
  };
  Dim one = b.dim(1);
  Tensor queries = prepare(0, {numHeads, group, keyDim}),
         keys = prepare(1, {numHeads, one, keyDim}),
         values = prepare(2, {numHeads, one, valueDim}), decays, rates;
  if (isGated) {
    Dim width = b.div(b.dim(b.input(4), 2), numHeads);
    if (!B::isConstant(width, 1))
      width = keyDim;
    decays = prepare(4, {numHeads, width, one});
  }
  if (isDelta)
    rates = prepare(
        5, {B::isConstant(b.dim(b.input(5), 2), 1) ? one : numHeads, one, one});

  Dims results = {batch, steps, numHeads, group, valueDim},
       stateDims = {batch, numHeads, keyDim, valueDim};
  if (b.has(3) && failed(verifyCompatibleShape(b.input(3).type(),
                                               b.tensorType(stateDims, f32))))
    return b.error() << "the state does not fit the operands";
  Tensor inits[] = {b.empty(results, query.element),
                    b.has(3) ? b.cast(b.input(3), f32)
                             : b.zeros(stateDims, f32)};
  SmallVector<Tensor> carried =
      b.loop(steps, inits, [&](Value t, ArrayRef<Tensor> carried) {
        auto ofStep = [&](Tensor tensor) {
          Dims offsets(5, b.dim(0)), dims = b.dims(tensor);
          offsets[1] = t;
          dims[1] = one;
          Tensor slice = b.slice(tensor, offsets, dims);
          dims.erase(dims.begin() + 1);
          return b.reshape(slice, dims);
        };
        auto product = [&](Tensor x, Tensor state) {
          Dims dims = b.dims(x);
          dims[3] = valueDim;
          return batchMatmul(b, x, state, b.zeros(dims, f32), 2);
        };
        Tensor state = b.withDims(carried[1].value, stateDims, f32);
        Tensor key = ofStep(keys), update = ofStep(values);
        if (isGated)
          state = b.combine(state, ofStep(decays), f32, [&](ValueRange v) {
            return b.mul(v[0], b.exp(v[1]));
          });
        if (isDelta) {
          update = b.combine(update, product(key, state), f32,
                             [&](ValueRange v) { return b.sub(v[0], v[1]); });
          update = b.combine(update, ofStep(rates), f32,
                             [&](ValueRange v) { return b.mul(v[0], v[1]); });
        }
        Tensor column = b.reshape(key, {batch, numHeads, keyDim, one});
        state = batchMatmul(b, column, update, state, 2);
        Tensor read = b.map(
            product(ofStep(queries), state), query.element,
            [&](ValueRange v) { return b.mul(v[0], b.number(scale, f32)); });
        Dims offsets(5, b.dim(0)), dims = results;
        offsets[1] = t;
        dims[1] = one;
        return SmallVector<Tensor>{
            b.insertSlice(b.reshape(read, dims), carried[0], offsets), state};
      });
  Tensor output = b.withDims(carried[0].value, results, query.element);
  (void)b.result(
      b.reshape(output, {batch, steps, b.mul(b.dim(queryHeads), valueDim)}));
  return b.result(b.cast(b.withDims(carried[1].value, stateDims, f32),
                         b.has(3) ? b.input(3).element : query.element));
}

//===----------------------------------------------------------------------===//
// Einsum
//===----------------------------------------------------------------------===//

/// Labels of the dimensions of a term; dimensions of an ellipsis are numbers
/// from the last, which is 0, on, so that those of all terms agree.
static FailureOr<SmallVector<int>> readTerm(B &b, StringRef term,
                                            int64_t ellipsisRank) {
  SmallVector<int> labels;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term.substr(i).starts_with("...")) {
      for (int64_t dim = ellipsisRank - 1; dim >= 0; --dim)
        labels.push_back(int(dim));
      i += 2;
    } else if (isalpha(term[i])) {
      labels.push_back(term[i]);
    } else {
      return b.error() << "the equation is not supported";
    }
  }
  return labels;
}

static LogicalResult lowerEinsum(B &b) {
  std::string equation = b.getString("equation", "").str();
  llvm::erase(equation, ' ');
  auto [left, right] = StringRef(equation).split("->");
  SmallVector<StringRef> terms;
  left.split(terms, ',');
  if (terms.size() != b.numInputs())
    return b.error() << "the equation has another number of terms";
  int64_t ellipsisRank = 0;
  SmallVector<Tensor> operands;
  SmallVector<SmallVector<int>> labels;
  for (auto [i, term] : llvm::enumerate(terms)) {
    operands.push_back(b.input(i));
    int64_t rank = operands.back().rank(),
            named = llvm::count_if(term, isalpha);
    int64_t own = term.contains("...") ? rank - named : 0;
    ellipsisRank = std::max(ellipsisRank, own);
    FailureOr<SmallVector<int>> read = readTerm(b, term, own);
    if (failed(read))
      return failure();
    if (int64_t(read->size()) != rank)
      return b.error() << "a term does not fit its operand";
    labels.push_back(*read);
  }
  SmallVector<int> results;
  if (equation.find("->") != std::string::npos) {
    FailureOr<SmallVector<int>> read = readTerm(b, right, ellipsisRank);
    if (failed(read))
      return failure();
    results = *read;
  } else { // the ellipsis, then labels that are there once, in their order
    std::map<int, int> counts;
    for (ArrayRef<int> term : labels)
      for (int label : term)
        ++counts[label];
    for (int64_t dim = ellipsisRank - 1; dim >= 0; --dim)
      results.push_back(int(dim));
    for (auto [label, count] : counts)
      if (label >= 'A' && count == 1)
        results.push_back(label);
  }

  // Loops: those of the result, then the rest in order of appearance.
  llvm::MapVector<int, std::pair<unsigned, Dim>> loops;
  for (int label : results)
    loops.insert({label, {unsigned(loops.size()), b.dim(1)}});
  for (ArrayRef<int> term : labels)
    for (int label : term)
      loops.insert({label, {unsigned(loops.size()), b.dim(1)}});
  for (auto [operand, term] : llvm::zip(operands, labels))
    for (auto [size, label] : llvm::zip(b.dims(operand), term)) {
      Dim &extent = loops.find(label)->second.second;
      if (B::isConstant(extent, 1))
        extent = size;
      else if (!B::isConstant(size, 1))
        b.requireEqual(extent, size, "extents of one label differ");
    }
  SmallVector<AffineMap> maps;
  for (auto [operand, term] : llvm::zip(operands, labels)) {
    SmallVector<AffineExpr> exprs;
    for (auto [size, label] : llvm::zip(b.dims(operand), term)) {
      auto [loop, extent] = loops.find(label)->second;
      bool isBroadcast = B::isConstant(size, 1) && !B::isConstant(extent, 1);
      exprs.push_back(isBroadcast ? b.getAffineConstantExpr(0)
                                  : b.getAffineDimExpr(loop));
    }
    maps.push_back(AffineMap::get(loops.size(), 0, exprs, b.getContext()));
  }
  Dims dims;
  SmallVector<AffineExpr> exprs;
  for (int label : results) {
    exprs.push_back(b.getAffineDimExpr(exprs.size()));
    dims.push_back(loops.find(label)->second.second);
  }
  maps.push_back(AffineMap::get(loops.size(), 0, exprs, b.getContext()));
  SmallVector<utils::IteratorType> iterators(loops.size(),
                                             utils::IteratorType::reduction);
  std::fill_n(iterators.begin(), results.size(), utils::IteratorType::parallel);
  Type element = operands[0].element, type = getComputeType(element);
  Tensor sum = b.generic(
      operands, b.zeros(dims, type), maps, iterators, [&](ValueRange v) {
        Value product = b.load(v[0], element);
        if (v.size() == 2)
          return b.add(product, v[1]);
        for (Value next : v.drop_front().drop_back(2))
          product = b.mul(product, b.load(next, element));
        return b.fma(product, b.load(v[v.size() - 2], element), v.back());
      });
  return b.result(b.cast(sum, element));
}

static const LoweringRow kRows[] = {
    {"Attention", lowerAttention},
    {"Einsum", lowerEinsum},
    {"LinearAttention", lowerLinearAttention},
    {"RotaryEmbedding", lowerRotaryEmbedding},
    {"com.microsoft.RotaryEmbedding", lowerMicrosoftRotaryEmbedding},
};

ArrayRef<LoweringRow> tercet::getAttentionLowerings() { return kRows; }
