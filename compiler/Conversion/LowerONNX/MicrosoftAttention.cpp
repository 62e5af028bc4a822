// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// onnxruntime's own forms of attention, which its optimiser and the exporters
// of language models write.

#include "compiler/Conversion/LowerONNX/Attention.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

/// Fails at the first input or output of those that no lowering reads.
static LogicalResult refuseBeyond(B &b, unsigned numInputs,
                                  unsigned numOutputs) {
  for (unsigned i : llvm::seq(numInputs, std::max(numInputs, b.numInputs())))
    if (b.has(i))
      return b.error() << "input " << i << " is not supported";
  for (unsigned i : llvm::seq(numOutputs, std::max(numOutputs, b.numOutputs())))
    if (b.isUsed(i))
      return b.error() << "output " << i << " is not supported";
  return success();
}

/// scores [B, H, S, T] plus a bias that broadcasts to them; keys behind its
/// last get none.
static FailureOr<Tensor> addBias(B &b, Tensor scores, Tensor bias) {
  Dim missing = b.sub(b.dim(scores, 3), b.dim(bias, 3));
  b.requireEqual(b.max(missing, b.dim(0)), missing,
                 "the attention bias is wider than the scores");
  if (!B::isConstant(missing, 0)) {
    Dims none(4, b.dim(0)), after = none;
    after[3] = missing;
    bias = b.pad(bias, none, after, b.number(0, getStorageType(bias.element)));
  }
  return b.elementwise({scores, bias}, scores.element, [&](ValueRange v) {
    return b.add(v[0], b.castScalar(v[1], bias.element, scores.element));
  });
}

//===----------------------------------------------------------------------===//
// MultiHeadAttention
//===----------------------------------------------------------------------===//

/// Elements `first` .. of the bias of all projections, added to x [B, S, D].
static FailureOr<Tensor> addProjectionBias(B &b, Tensor x, Dim first) {
  if (!b.has(3))
    return x;
  Tensor part = b.slice(b.input(3), first, b.dim(x, 2));
  return b.elementwise({x, part}, x.element,
                       [&](ValueRange v) { return b.add(v[0], v[1]); });
}

/// Keys that padding masks, [B] lengths, [B, T] or [B, S, T], get a low score;
/// it is added, so that queries without any other keys see them.
static FailureOr<Tensor> addPaddingMask(B &b, Tensor scores, Tensor mask) {
  Type type = scores.element;
  Value low = b.number(b.getFloat("mask_filter_value", -10000), type);
  int64_t rank = mask.rank();
  Dims dims = b.dims(scores);
  b.requireEqual(b.dim(mask, 0), dims[0],
                 "the padding mask is of another batch");
  if (rank > 1)
    b.requireEqual(b.dim(mask, rank - 1), dims[3],
                   "the padding mask is not as wide as the keys are many");
  if (rank > 2)
    b.requireEqual(b.dim(mask, 1), dims[2],
                   "the padding mask is not as high as the queries are many");
  return b.generate(dims, type, [&](ValueRange i) {
    Value isSeen;
    if (rank == 1)
      isSeen = b.compare(Compare::LT, i[3], b.toIndex(b.at(mask, i[0])));
    else
      isSeen = b.compare(Compare::GT,
                         b.at(mask, rank == 2 ? B::Values{i[0], i[3]}
                                              : B::Values{i[0], i[2], i[3]}),
                         b.number(0, mask.element));
    Value score = b.at(scores, i);
    return b.select(isSeen, score, b.add(score, low));
  });
}

static LogicalResult lowerMultiHeadAttention(B &b) {
  if (failed(refuseBeyond(b, 8, 3)))
    return failure();
  Tensor query = b.input(0);
  if (query.rank() != 3 || !b.has(1) || !b.has(2))
    return b.error() << "packed queries, keys and values are not supported";
  int64_t heads = b.getInt("num_heads", 0);
  if (heads < 1)
    return b.error() << "num_heads is " << heads;
  if (b.has(6) != b.has(7))
    return b.error() << "past keys without past values, or these without those";
  for (unsigned i : llvm::seq(3))
    if (Tensor x = b.input(i);
        x.rank() == 3 &&
        (ShapedType::isDynamic(x.size(2)) || x.size(2) % heads))
      return b.error() << "operands are not " << heads << " heads wide";
  Tensor parts[3];
  Dim first = b.dim(0);
  for (unsigned i : llvm::seq(3)) {
    Tensor x = b.input(i);
    if (x.rank() == 3) {
      FailureOr<Tensor> biased = addProjectionBias(b, x, first);
      if (failed(biased))
        return failure();
      first = b.add(first, b.dim(x, 2));
      x = splitHeads(b, *biased, b.dim(heads));
    } else if (b.has(3)) {
      return b.error() << "keys that are split into heads have a bias";
    }
    parts[i] = x;
  }
  auto [q, k, v] = parts;
  Dim past = b.dim(0);
  if (b.has(6)) {
    past = b.dim(b.input(6), 2);
    k = b.concat({b.input(6), k}, 2);
    v = b.concat({b.input(7), v}, 2);
  }
  FailureOr<double> scale = getScale(b, b.dim(q, 3));
  if (failed(scale))
    return failure();
  FailureOr<Tensor> scores = scoreKeys(b, q, k, *scale);
  if (succeeded(scores) && b.has(4))
    scores = addPaddingMask(b, *scores, b.input(4));
  if (succeeded(scores) && b.has(5))
    scores = addBias(b, *scores, b.input(5));
  if (failed(scores))
    return failure();
  if (b.getInt("unidirectional", 0)) {
    Type type = scores->element;
    scores = b.generate(b.dims(*scores), type, [&](ValueRange i) {
      return b.select(b.compare(Compare::LE, i[3], b.add(i[2], b.index(past))),
                      b.at(*scores, i), b.number(-INFINITY, type));
    });
  }
  FailureOr<Tensor> output = mixValues(b, weighKeys(b, *scores), v);
  if (failed(output))
    return failure();
  (void)b.result(b.cast(mergeHeads(b, *output), query.element));
  (void)b.result(k);
  return b.result(v);
}

//===----------------------------------------------------------------------===//
// GroupQueryAttention
//===----------------------------------------------------------------------===//

namespace {

/// Sequences of a batch differ in length. A cache has room for the longest; new
/// keys and values follow those that a sequence has there.
class GroupQueryAttention {
public:
  explicit GroupQueryAttention(B &b) : b(b) {}
  LogicalResult lower();

private:
  LogicalResult check();
  void splitOperands();
  void checkLengths();
  void rotateNew();
  Tensor append(Tensor added, unsigned past);
  Tensor hideUnseen(Tensor scores);
  Tensor getSink(Type type);

  /// How many keys a sequence has after this step and before it. The first
  /// step of a shorter sequence ends in padding, which counts as before none.
  Value countKeys(Value sequence) {
    return b.add(b.toIndex(b.at(b.input(5), sequence)), b.index(1));
  }
  Value countPast(Value sequence) {
    return b.max(b.sub(countKeys(sequence), b.index(steps)), b.index(0));
  }

  B &b;
  int64_t numHeads = 0, numKeyHeads = 0;
  Tensor q, k, v;
  Dim batch, steps, longest, capacity;
};

} // namespace

LogicalResult GroupQueryAttention::check() {
  if (failed(refuseBeyond(b, 12, 3)))
    return failure();
  for (StringRef name : {"k_quant_type", "v_quant_type"})
    if (StringRef type = b.getString(name, "NONE"); type != "NONE")
      return b.error() << name << " '" << type << "' is not supported";
  for (StringRef name : {"sliding_window_cache", "qk_output"})
    if (int64_t value = b.getInt(name, 0))
      return b.error() << name << " " << value << " is not supported";
  if (b.has(1) != b.has(2) || b.has(3) != b.has(4))
    return b.error() << "keys without values, or these without those";
  if (b.getInt("do_rotary", 0) && !(b.has(7) && b.has(8)))
    return b.error() << "do_rotary without cosines or sines";
  if (b.has(3) && b.input(3).element != b.input(0).element)
    return b.error() << "quantised past keys are not supported";
  numHeads = b.getInt("num_heads", 0);
  numKeyHeads = b.getInt("kv_num_heads", 0);
  if (numHeads < 1 || numKeyHeads < 1 || numHeads % numKeyHeads != 0)
    return b.error() << "num_heads is no multiple of kv_num_heads";
  int64_t width = b.input(0).size(2),
          count = numHeads + (b.has(1) ? 0 : 2 * numKeyHeads);
  if (ShapedType::isDynamic(width) || width < count || width % count != 0)
    return b.error() << "a query of " << count << " heads is " << width
                     << " wide";
  return success();
}

/// Without keys the queries have these and the values behind them.
void GroupQueryAttention::splitOperands() {
  q = b.input(0);
  if (b.has(1)) {
    q = splitHeads(b, q, b.dim(numHeads));
    k = splitHeads(b, b.input(1), b.dim(numKeyHeads));
    v = splitHeads(b, b.input(2), b.dim(numKeyHeads));
    return;
  }
  Tensor all = splitHeads(b, q, b.dim(numHeads + 2 * numKeyHeads));
  auto take = [&](int64_t first, int64_t count) {
    Dims offsets(4, b.dim(0)), dims = b.dims(all);
    offsets[1] = b.dim(first);
    dims[1] = b.dim(count);
    return b.slice(all, offsets, dims);
  };
  q = take(0, numHeads);
  k = take(numHeads, numKeyHeads);
  v = take(numHeads + numKeyHeads, numKeyHeads);
}

/// What `append` and `rotateNew` rely on.
void GroupQueryAttention::checkLengths() {
  auto requireDims = [&](Tensor x, Dim length, Dim width) {
    for (auto [size, expected] :
         llvm::zip(b.dims(x), Dims{batch, b.dim(numKeyHeads), length, width}))
      b.requireEqual(size, expected, "keys or values do not fit the queries");
  };
  Tensor added[] = {k, v};
  for (auto [i, x] : llvm::enumerate(added)) {
    requireDims(x, steps, b.dim(x, 3));
    if (b.has(3))
      requireDims(b.input(3 + i), b.dim(b.input(3), 2), b.dim(x, 3));
  }
  Tensor lengths = b.input(5);
  b.requireEqual(b.dim(lengths, 0), batch, "seqlens_k is of another batch");
  Dim past = b.has(3) ? b.dim(b.input(3), 2) : b.dim(0);
  b.require(b.compare(Compare::LE, b.index(steps), b.index(longest)),
            "total_sequence_length is less than the queries are many");
  Type i8 = b.getI8Type();
  Tensor fits = b.generate(batch, i8, [&](ValueRange i) {
    auto isWithin = [&](Value value, Dim limit) {
      return b.compare(Compare::LE, value, b.index(limit));
    };
    Value count = countKeys(i[0]);
    Value both =
        arith::AndIOp::create(b, isWithin(count, longest),
                              isWithin(b.sub(count, b.index(steps)), past));
    return b.createOrFold<arith::ExtUIOp>(i8, both);
  });
  Tensor all = b.reduce(fits, {0}, /*keep=*/false, i8, b.number(1, i8),
                        [&](ValueRange v) { return b.min(v[0], v[1]); });
  b.require(b.compare(Compare::NE, b.at(all, {}), b.number(0, i8)),
            "seqlens_k does not fit total_sequence_length and the past");
}

/// Positions of new tokens are those in the cache, or an input. Of the first
/// step only the first of these counts.
void GroupQueryAttention::rotateNew() {
  Tensor cosines = b.input(7), sines = b.input(8);
  Type i64 = b.getI64Type();
  if (b.has(9))
    for (auto [size, expected] :
         llvm::zip(b.dims(b.input(9)), Dims{batch, steps}))
      b.requireEqual(size, expected, "positions are not one a token");
  Value isFirst = b.compare(Compare::EQ, b.index(steps), b.index(longest));
  Tensor positions = b.generate({batch, steps}, i64, [&](ValueRange i) {
    Value counted =
        b.createOrFold<arith::IndexCastOp>(i64, b.add(countPast(i[0]), i[1]));
    if (!b.has(9))
      return counted;
    Value zero = b.index(0);
    Value first = b.at(b.input(9), {zero, zero});
    Value step = b.createOrFold<arith::IndexCastOp>(i64, i[1]);
    return b.select(isFirst, b.add(first, step), b.at(b.input(9), i));
  });
  Dim width = b.mul(b.dim(cosines, 1), b.dim(2));
  bool isInterleaved = b.getInt("rotary_interleaved", 0);
  q = rotate(b, q, positions, cosines, sines, width, isInterleaved);
  k = rotate(b, k, positions, cosines, sines, width, isInterleaved);
}

/// The cache [B, H, capacity, D] with what it had, new tokens, and zeros.
Tensor GroupQueryAttention::append(Tensor added, unsigned past) {
  Dims dims = b.dims(added);
  dims[2] = capacity;
  return b.forEachIndex(
      batch, b.zeros(dims, added.element), [&](ValueRange i, Tensor cache) {
        Dim before = getAsOpFoldResult(countPast(i[0]));
        Dims first = {i[0], b.dim(0), b.dim(0), b.dim(0)}, sizes = dims;
        sizes[0] = b.dim(1);
        if (b.has(past)) {
          sizes[2] = before;
          cache =
              b.insertSlice(b.slice(b.input(past), first, sizes), cache, first);
        }
        sizes[2] = steps;
        Tensor rows = b.slice(added, first, sizes);
        first[2] = before;
        return b.insertSlice(rows, cache, first);
      });
}

/// A query sees itself and what is before it, the last `local_window_size` of
/// that; without `causal` all keys.
Tensor GroupQueryAttention::hideUnseen(Tensor scores) {
  Type type = scores.element;
  bool isCausal = b.getInt("causal", 1);
  int64_t window = b.getInt("local_window_size", -1);
  return b.generate(b.dims(scores), type, [&](ValueRange i) {
    Value end = countKeys(i[0]);
    if (isCausal)
      end = b.min(end, b.add(b.add(countPast(i[0]), i[2]), b.index(1)));
    Value isSeen = b.compare(Compare::LT, i[3], end);
    if (window >= 0)
      isSeen = arith::AndIOp::create(
          b, isSeen, b.compare(Compare::GE, b.add(i[3], b.index(window)), end));
    return b.select(isSeen, b.at(scores, i), b.number(-INFINITY, type));
  });
}

/// A score of each head, or 0 with `smooth_softmax`.
Tensor GroupQueryAttention::getSink(Type type) {
  Dims dims = {b.dim(1), b.dim(numHeads), b.dim(1), b.dim(1)};
  if (b.has(11))
    return b.reshape(b.cast(b.input(11), type), dims);
  if (b.getInt("smooth_softmax", 0) == 1)
    return b.zeros(dims, type);
  return {};
}

LogicalResult GroupQueryAttention::lower() {
  if (failed(check()))
    return failure();
  Type element = b.input(0).element;
  splitOperands();
  batch = b.dim(q, 0);
  steps = b.dim(q, 2);
  longest = b.toDims(b.input(6)).front();
  capacity = b.has(3) ? b.max(longest, b.dim(b.input(3), 2)) : longest;
  checkLengths();
  if (b.getInt("do_rotary", 0))
    rotateNew();
  Tensor keys = append(k, 3), values = append(v, 4);
  FailureOr<double> scale = getScale(b, b.dim(q, 3));
  if (failed(scale))
    return failure();
  FailureOr<Tensor> scores = scoreKeys(b, q, keys, *scale);
  if (failed(scores))
    return failure();
  scores = capScores(b, *scores);
  if (b.has(10))
    scores = addBias(b, *scores, b.input(10));
  if (failed(scores))
    return failure();
  Tensor weights = weighKeys(b, hideUnseen(*scores), getSink(scores->element));
  FailureOr<Tensor> output = mixValues(b, weights, values);
  if (failed(output))
    return failure();
  (void)b.result(b.cast(mergeHeads(b, *output), element));
  (void)b.result(keys);
  return b.result(values);
}

static LogicalResult lowerGroupQueryAttention(B &b) {
  return GroupQueryAttention(b).lower();
}

static const LoweringRow kRows[] = {
    {"com.microsoft.GroupQueryAttention", lowerGroupQueryAttention},
    {"com.microsoft.MultiHeadAttention", lowerMultiHeadAttention},
};

ArrayRef<LoweringRow> tercet::getMicrosoftAttentionLowerings() { return kRows; }
