// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// LSTM, GRU and RNN: what inputs contribute to the gates is one matmul for all
// steps; a loop over the steps adds what the state does.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

namespace {

/// [K, gates * H]; integers, if they have a scale: one, or one a column.
struct Matrix {
  Tensor values, scale;
};

/// One direction of a layer. Matrices are those of the direction, transposed.
class Recurrence {
public:
  Recurrence(B &b, int64_t numGates) : b(b), numGates(numGates) {}
  virtual ~Recurrence() = default;

  LogicalResult lower();

protected:
  /// The state after a step: `inputs` [N, gates * H] have all biases that are
  /// added before anything else. state[0] is the output.
  virtual FailureOr<SmallVector<Tensor>> step(Tensor inputs,
                                              ArrayRef<Tensor> state) = 0;
  virtual unsigned getNumStates() const { return 1; }
  /// Of input 1, which multiplies x, or 2, which multiplies the state.
  virtual FailureOr<Matrix> getMatrix(unsigned index) {
    Tensor matrix = b.cast(takeDirection(b.input(index)), type);
    return Matrix{b.transpose(matrix, {1, 0}), {}};
  }
  virtual Dim getHidden() { return b.dim(b.input(2), 2); }
  virtual FailureOr<Tensor> addProduct(Tensor x, const Matrix &matrix,
                                       Tensor init) {
    return batchMatmul(b, x, matrix.values, init, 0);
  }

  FailureOr<Tensor> apply(ArrayRef<Tensor> operands, B::Body body) {
    return b.elementwise(operands, type, body);
  }
  /// Entry `direction` of the leading dimension, which goes.
  Tensor takeDirection(Tensor tensor) {
    Dims dims = b.dims(tensor), offsets(dims.size(), b.dim(0));
    offsets[0] = b.dim(direction);
    dims[0] = b.dim(1);
    Tensor one = b.slice(tensor, offsets, dims);
    dims.erase(dims.begin());
    return b.reshape(one, dims);
  }
  /// Gates `first` .. `first + count - 1` of a tensor of all.
  Tensor takeGates(Tensor gates, int64_t first, int64_t count = 1) {
    Dims dims = b.dims(gates), offsets(dims.size(), b.dim(0));
    offsets.back() = b.mul(b.dim(first), hidden);
    dims.back() = b.mul(b.dim(count), hidden);
    return b.slice(gates, offsets, dims);
  }
  /// Activation number `index` of the direction.
  Value activate(unsigned index, Value x);
  Value clip(Value x) {
    float limit = b.getFloat("clip", 0);
    if (limit == 0)
      return x;
    return b.min(b.max(x, b.number(-limit, type)), b.number(limit, type));
  }
  virtual ArrayRef<StringRef> getDefaultActivations() const = 0;

  B &b;
  int64_t numGates;
  Type type;
  Dim hidden, steps, batch;
  // Of the direction that is lowered.
  int64_t direction = 0;
  Matrix recurrent;
  Tensor recurrentBias, peepholes;

private:
  /// `inside` where a sequence has a step `position`, else `outside`.
  Tensor keepWithin(Dim position, Tensor inside, Tensor outside) {
    Tensor lengths = b.input(4);
    return b.generate({batch, hidden}, type, [&](ValueRange i) {
      Value length = b.toIndex(b.at(lengths, i[0]));
      return b.select(b.compare(Compare::LT, b.index(position), length),
                      b.at(inside, i), b.at(outside, i));
    });
  }
  LogicalResult check();
  FailureOr<SmallVector<Tensor>> lowerDirection(Tensor x, bool isReverse);
  SmallVector<StringRef> activations;
};

LogicalResult Recurrence::check() {
  int64_t directions =
      b.getString("direction", "forward") == "bidirectional" ? 2 : 1;
  ArrayRef<StringRef> defaults = getDefaultActivations();
  if (auto names = b.node()->getAttrOfType<ArrayAttr>("activations")) {
    for (auto name : names.getAsRange<StringAttr>())
      activations.push_back(name.getValue());
  } else {
    for (int64_t i = 0; i < directions; ++i)
      activations.append(defaults.begin(), defaults.end());
  }
  if (activations.size() != directions * defaults.size())
    return b.error() << "activations do not fit";
  for (StringRef name : activations)
    if (!llvm::is_contained({"sigmoid", "tanh", "relu"}, name.lower()))
      return b.error() << "activation '" << name << "' is not supported";
  return success();
}

Value Recurrence::activate(unsigned index, Value x) {
  StringRef name =
      activations[direction * getDefaultActivations().size() + index];
  if (name.equals_insensitive("sigmoid"))
    return b.sigmoid(x);
  if (name.equals_insensitive("tanh"))
    return math::TanhOp::create(b, x);
  return b.max(x, b.number(0, x.getType()));
}

/// All outputs [T, N, H], then the states after the last step.
FailureOr<SmallVector<Tensor>> Recurrence::lowerDirection(Tensor x,
                                                          bool isReverse) {
  Dim width = b.mul(b.dim(numGates), hidden);
  FailureOr<Matrix> weights = getMatrix(1), ofState = getMatrix(2);
  if (failed(weights) || failed(ofState))
    return failure();
  recurrent = *ofState;
  Tensor bias = b.zeros(width, type);
  recurrentBias = bias;
  if (b.has(3)) {
    Tensor both = b.cast(takeDirection(b.input(3)), type);
    bias = b.slice(both, b.dim(0), width);
    recurrentBias = b.slice(both, width, width);
  }
  unsigned peepholeInput = 7;
  peepholes = b.has(peepholeInput)
                  ? b.cast(takeDirection(b.input(peepholeInput)), type)
                  : Tensor();
  Dims all = {steps, batch, width}, one = {b.dim(1), batch, width};
  Dim rows = b.mul(steps, batch);
  FailureOr<Tensor> products =
      addProduct(b.reshape(b.cast(x, type), {rows, b.dim(x, 2)}), *weights,
                 b.broadcastTo(bias, {rows, width}));
  if (failed(products))
    return failure();
  Tensor inputs = b.reshape(*products, all);

  Dims state = {batch, hidden};
  SmallVector<Tensor> inits = {b.empty({steps, batch, hidden}, type)};
  for (unsigned i = 0; i < getNumStates(); ++i)
    inits.push_back(
        b.has(5 + i)
            ? b.reshape(b.cast(takeDirection(b.input(5 + i)), type), state)
            : b.zeros(state, type));
  LogicalResult status = success();
  SmallVector<Tensor> results =
      b.loop(steps, inits, [&](Value i, ArrayRef<Tensor> carried) {
        Dim position =
            isReverse ? b.sub(b.sub(steps, b.dim(1)), Dim(i)) : Dim(i);
        Dims offsets = {position, b.dim(0), b.dim(0)};
        Tensor now = b.reshape(b.slice(inputs, offsets, one), {batch, width});
        SmallVector<Tensor> states;
        for (Tensor tensor : carried.drop_front())
          states.push_back(b.withDims(tensor.value, state, type));
        FailureOr<SmallVector<Tensor>> next = step(now, states);
        if (failed(next)) {
          status = failure();
          return llvm::to_vector(carried);
        }
        Tensor output = (*next)[0];
        if (b.has(4)) {
          output = keepWithin(position, output, b.zeros(state, type));
          for (auto [after, before] : llvm::zip(*next, states))
            after = keepWithin(position, after, before);
        }
        Tensor row = b.reshape(output, {b.dim(1), batch, hidden});
        SmallVector<Tensor> result = {b.insertSlice(row, carried[0], offsets)};
        result.append(*next);
        return result;
      });
  if (failed(status))
    return failure();
  results[0] = b.withDims(results[0].value, {steps, batch, hidden}, type);
  for (Tensor &tensor : MutableArrayRef(results).drop_front())
    tensor = b.withDims(tensor.value, state, type);
  return results;
}

LogicalResult Recurrence::lower() {
  if (failed(check()))
    return failure();
  Tensor x = b.input(0);
  type = getComputeType(x.element);
  bool isBatchFirst = b.getInt("layout", 0);
  if (isBatchFirst)
    x = b.transpose(x, {1, 0, 2});
  steps = b.dim(x, 0);
  batch = b.dim(x, 1);
  hidden = getHidden();
  if (isBatchFirst && (b.has(5) || b.has(6)))
    return b.error() << "initial states with layout 1 are not supported";
  StringRef name = b.getString("direction", "forward");
  SmallVector<bool> directions = {name == "reverse"};
  if (name == "bidirectional")
    directions = {false, true};
  // Stacked along a dimension of directions.
  SmallVector<SmallVector<Tensor>> parts(1 + getNumStates());
  for (bool isReverse : directions) {
    FailureOr<SmallVector<Tensor>> results = lowerDirection(x, isReverse);
    if (failed(results))
      return failure();
    for (auto [i, result] : llvm::enumerate(*results))
      parts[i].push_back(
          b.unsqueeze(b.cast(result, x.element), i == 0 ? 1 : 0));
    ++direction;
  }
  Tensor all = b.concat(parts[0], 1); // [T, D, N, H]
  (void)b.result(isBatchFirst ? b.transpose(all, {2, 0, 1, 3}) : all);
  for (ArrayRef<Tensor> states : ArrayRef(parts).drop_front()) {
    Tensor last = b.concat(states, 0); // [D, N, H]
    (void)b.result(isBatchFirst ? b.transpose(last, {1, 0, 2}) : last);
  }
  return success();
}

struct RNN : Recurrence {
  explicit RNN(B &b) : Recurrence(b, 1) {}
  ArrayRef<StringRef> getDefaultActivations() const override {
    static const StringRef names[] = {"Tanh"};
    return names;
  }
  FailureOr<SmallVector<Tensor>> step(Tensor inputs,
                                      ArrayRef<Tensor> state) override {
    FailureOr<Tensor> biased =
        apply({inputs, recurrentBias},
              [&](ValueRange v) { return b.add(v[0], v[1]); });
    if (failed(biased))
      return failure();
    FailureOr<Tensor> sums = addProduct(state[0], recurrent, *biased);
    if (failed(sums))
      return failure();
    return SmallVector<Tensor>{b.map(
        *sums, type, [&](ValueRange v) { return activate(0, clip(v[0])); })};
  }
};

struct LSTM : Recurrence {
  explicit LSTM(B &b) : Recurrence(b, 4) {}
  unsigned getNumStates() const override { return 2; }
  ArrayRef<StringRef> getDefaultActivations() const override {
    static const StringRef names[] = {"Sigmoid", "Tanh", "Tanh"};
    return names;
  }
  /// Gates are input, output, forget, cell; peepholes input, output, forget.
  FailureOr<SmallVector<Tensor>> step(Tensor inputs,
                                      ArrayRef<Tensor> state) override {
    FailureOr<Tensor> biased =
        apply({inputs, recurrentBias},
              [&](ValueRange v) { return b.add(v[0], v[1]); });
    if (failed(biased))
      return failure();
    FailureOr<Tensor> products = addProduct(state[0], recurrent, *biased);
    if (failed(products))
      return failure();
    Tensor sums = *products, cell = state[1];
    bool couples = b.getInt("input_forget", 0);
    SmallVector<Tensor> operands = {takeGates(sums, 0), takeGates(sums, 2),
                                    takeGates(sums, 3), cell};
    if (peepholes) {
      operands.push_back(takeGates(peepholes, 0));
      operands.push_back(takeGates(peepholes, 2));
    }
    FailureOr<Tensor> nextCell = apply(operands, [&](ValueRange v) {
      Value input = v[0], forget = v[1];
      if (peepholes) {
        input = b.add(input, b.mul(v[4], v[3]));
        forget = b.add(forget, b.mul(v[5], v[3]));
      }
      input = activate(0, clip(input));
      forget =
          couples ? b.sub(b.number(1, type), input) : activate(0, clip(forget));
      return b.add(b.mul(forget, v[3]), b.mul(input, activate(1, clip(v[2]))));
    });
    if (failed(nextCell))
      return failure();
    operands = {takeGates(sums, 1), *nextCell};
    if (peepholes)
      operands.push_back(takeGates(peepholes, 1));
    FailureOr<Tensor> output = apply(operands, [&](ValueRange v) {
      Value gate = v[0];
      if (peepholes)
        gate = b.add(gate, b.mul(v[2], v[1]));
      return b.mul(activate(0, clip(gate)), activate(2, v[1]));
    });
    if (failed(output))
      return failure();
    return SmallVector<Tensor>{*output, *nextCell};
  }
};

/// With weights [D, K, 4 * H] of 8 bits. Inputs are quantised for all steps,
/// states in each step, with one scale.
struct DynamicQuantizeLSTM : LSTM {
  using LSTM::LSTM;
  Dim getHidden() override { return b.dim(b.input(2), 1); }
  FailureOr<Matrix> getMatrix(unsigned index) override {
    unsigned scale = 6 + 2 * index; // and the zero points after it
    Tensor zeroPoint;
    if (b.has(scale + 1))
      zeroPoint = takeDirection(b.input(scale + 1));
    FailureOr<Tensor> values =
        subtractZeroPoint(b, takeDirection(b.input(index)), zeroPoint);
    if (failed(values))
      return failure();
    return Matrix{*values, takeDirection(b.input(scale))};
  }
  FailureOr<Tensor> addProduct(Tensor x, const Matrix &matrix,
                               Tensor init) override {
    FailureOr<QuantizedTensor> codes = quantizeDynamically(b, x);
    if (failed(codes))
      return failure();
    FailureOr<Tensor> centered =
        subtractZeroPoint(b, codes->codes, codes->zeroPoint);
    if (failed(centered))
      return failure();
    Type i32 = b.getI32Type();
    Tensor sums =
        batchMatmul(b, *centered, matrix.values, b.zeros(b.dims(init), i32), 0);
    return apply({sums, codes->scale, matrix.scale, init}, [&](ValueRange v) {
      return b.fma(b.castScalar(v[0], i32, type), b.mul(v[1], v[2]), v[3]);
    });
  }
};

struct GRU : Recurrence {
  explicit GRU(B &b) : Recurrence(b, 3) {}
  ArrayRef<StringRef> getDefaultActivations() const override {
    static const StringRef names[] = {"Sigmoid", "Tanh"};
    return names;
  }
  /// Gates are update, reset, hidden.
  FailureOr<SmallVector<Tensor>> step(Tensor inputs,
                                      ArrayRef<Tensor> state) override {
    Tensor h = state[0];
    Dims two = {batch, b.mul(b.dim(2), hidden)}, one = {batch, hidden};
    FailureOr<Tensor> biased =
        apply({takeGates(inputs, 0, 2), takeGates(recurrentBias, 0, 2)},
              [&](ValueRange v) { return b.add(v[0], v[1]); });
    if (failed(biased))
      return failure();
    auto takeMatrix = [&](int64_t first, int64_t count = 1) {
      return Matrix{takeGates(recurrent.values, first, count), {}};
    };
    FailureOr<Tensor> products = addProduct(h, takeMatrix(0, 2), *biased);
    if (failed(products))
      return failure();
    Tensor sums = b.map(*products, type,
                        [&](ValueRange v) { return activate(0, clip(v[0])); });
    Tensor update = takeGates(sums, 0), reset = takeGates(sums, 1);
    Matrix matrix = takeMatrix(2);
    Tensor bias = takeGates(recurrentBias, 2);
    FailureOr<Tensor> candidate;
    if (b.getInt("linear_before_reset", 0)) {
      FailureOr<Tensor> product =
          addProduct(h, matrix, b.broadcastTo(bias, one));
      if (failed(product))
        return failure();
      candidate =
          apply({takeGates(inputs, 2), reset, *product},
                [&](ValueRange v) { return b.add(v[0], b.mul(v[1], v[2])); });
    } else {
      FailureOr<Tensor> kept =
          apply({reset, h}, [&](ValueRange v) { return b.mul(v[0], v[1]); });
      FailureOr<Tensor> init =
          apply({takeGates(inputs, 2), bias},
                [&](ValueRange v) { return b.add(v[0], v[1]); });
      if (failed(kept) || failed(init))
        return failure();
      candidate = addProduct(*kept, matrix, *init);
    }
    if (failed(candidate))
      return failure();
    FailureOr<Tensor> next = apply({update, *candidate, h}, [&](ValueRange v) {
      Value rest = b.sub(b.number(1, type), v[0]);
      return b.add(b.mul(rest, activate(1, clip(v[1]))), b.mul(v[0], v[2]));
    });
    if (failed(next))
      return failure();
    return SmallVector<Tensor>{*next};
  }
};

} // namespace

template <typename Cell> static LogicalResult lowerRecurrence(B &b) {
  return Cell(b).lower();
}

static const LoweringRow kRows[] = {
    {"GRU", lowerRecurrence<GRU>},
    {"LSTM", lowerRecurrence<LSTM>},
    {"RNN", lowerRecurrence<RNN>},
    {"com.microsoft.DynamicQuantizeLSTM", lowerRecurrence<DynamicQuantizeLSTM>},
};

ArrayRef<LoweringRow> tercet::getRecurrentLowerings() { return kRows; }
