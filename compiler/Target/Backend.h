// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a backend is: a description of the target's dot product and registers,
// and lowerings of the vector-level ops. Everything above is shared.
// docs/adding-a-backend.md walks through Target/Null, the template.

#ifndef TERCET_COMPILER_TARGET_BACKEND_H
#define TERCET_COMPILER_TARGET_BACKEND_H

#include "compiler/Target/CpuDescription.h"
#include "dialect/Ternary/Ternary.h"
#include "mlir/IR/PatternMatch.h"

#include <optional>

namespace tercet {

/// A ternary matmul whose layout is to be chosen.
struct MatmulShape {
  int64_t rows;      ///< padded output features
  int64_t cols;      ///< padded input features
  int64_t group = 0; ///< columns that share a scale; 0: one for each matrix

  bool operator==(const MatmulShape &) const = default;
};

/// One token, or many: the two kernels of a matmul.
enum class BatchClass { Decode, Prefill };

/// Vector registers of a target.
struct VectorRegisters {
  int64_t count, lanes; ///< lanes of 32 bits
};

class Backend {
public:
  virtual ~Backend() = default;

  virtual llvm::StringRef getName() const = 0;

  /// One line for `tercet targets`.
  virtual llvm::StringRef getDescription() const = 0;

  virtual bool supports(const TargetSpec &target) const = 0;

  /// How fast one core computes with weights of a packing, until somebody
  /// measures it; nothing if the target has no good code for the packing.
  virtual std::optional<MatmulRates> getRates(ternary::Packing packing,
                                              const TargetSpec &target,
                                              const CpuDescription &cpu) const {
    if (packing != ternary::Packing::I2)
      return std::nullopt;
    return MatmulRates{5e9, 5e9};
  }

  /// How much of the shorter one a core hides behind the longer one, reading
  /// memory and computing, in a GEMV that reads so many places in turns: 1 if
  /// the longer one is all that counts, 0 if their times add up.
  virtual double getOverlap(int64_t numStreams, const TargetSpec &target,
                            const CpuDescription &cpu) const {
    return 1;
  }

  virtual VectorRegisters getRegisters(const TargetSpec &target) const {
    return {16, 4};
  }

  /// Default schedule of a ternary matmul.
  virtual ternary::Schedule getSchedule(ternary::Packing packing,
                                        MatmulShape shape,
                                        const TargetSpec &target) const = 0;

  /// Schedules worth measuring for a batch class, `base` the first of them.
  /// Those of a prefill differ from it only in what a GEMV does not use.
  std::vector<ternary::Schedule> getCandidates(ternary::Packing packing,
                                               BatchClass batch,
                                               const ternary::Schedule &base,
                                               const TargetSpec &target) const;

  /// 64 rows by two pairs of columns keep four chains of fma busy at memory
  /// speed, and by four tokens sixteen.
  virtual int64_t getHeadTileRows(ternary::Packing packing,
                                  const TargetSpec &target) const {
    return 64;
  }

  /// Default schedule of a head of floats, in tiles of `tileRows` rows.
  virtual ternary::Schedule getHeadSchedule(ternary::Packing packing,
                                            int64_t tileRows,
                                            const TargetSpec &target) const {
    return {.unroll = 2, .tokens = 4};
  }

  /// Packing and default schedule of a quantised head.
  virtual ternary::CodeLayoutAttr
  selectHeadLayout(mlir::MLIRContext *context, ternary::CodeFormat format,
                   const TargetSpec &target) const {
    return ternary::CodeLayoutAttr::get(context, format, /*tileRows=*/16,
                                        /*lanes=*/4, /*parts=*/1, /*tokens=*/1,
                                        /*prefetch=*/0);
  }

  /// vector<16xf32> accumulators that stay in registers beside the operands of
  /// their fma, for the float kernels.
  virtual int64_t getFloatAccumulators(const TargetSpec &target) const {
    return 4;
  }

  /// Largest code for which the lowering of `ternary.dot` is exact, unless it
  /// is wide: 255, 128 where pairs of products go through 16 bits, or 127 where
  /// codes are signed.
  virtual int64_t getMaxDotCode(const TargetSpec &target) const { return 255; }

  /// Whether shifts of bytes are instructions. Then codes in place are shifted
  /// down, with those above them.
  virtual bool shiftsBytes(const TargetSpec &target) const { return false; }

  /// Whether `ternary.dot` with one lane of q for all rows is an instruction.
  virtual bool dotsLanes(const TargetSpec &target) const { return false; }

  /// Whether an fma with one lane of a vector for all lanes is an instruction:
  /// four scalars are then loaded at once.
  virtual bool multipliesLanes(const TargetSpec &target) const { return false; }

  /// Whether the even bytes of two vectors by turns are an instruction: low and
  /// high bytes of words.
  virtual bool interleavesBytes(const TargetSpec &target) const {
    return false;
  }

  /// Whether kernels load so many constants into registers that those of one
  /// kind of items leave too few for another kind: each has a loop of its own.
  virtual bool separatesKinds(const TargetSpec &target) const { return false; }

  /// Whether `ternary.dot` is one instruction for codes of 8 bits, as fast as
  /// an fma: it takes a byte of each word, and makes a float of it.
  virtual bool dotsBytes(const TargetSpec &target) const { return false; }

  /// Whether conversion of f16 to f32 is an instruction of vectors.
  virtual bool widensF16(const TargetSpec &target) const { return false; }

  /// Whether attention has to fetch keys and values itself: the CPU's
  /// prefetchers do not follow from one block of a KV cache to the next.
  virtual bool prefetchesKeys(const TargetSpec &target) const { return false; }

  /// Whether products of two rows by two tokens over eight columns are an
  /// instruction. A GEMM then asks for them by two `ternary.dot`s in a row, of
  /// codes and q that are shuffled so that each row meets each token.
  virtual bool dotsTiles(const TargetSpec &target) const { return false; }

  /// Whether a vector is masked while another one is multiplied. Elsewhere the
  /// instructions of a GEMM that do not multiply take the place of some that
  /// do.
  virtual bool masksBesideDots(const TargetSpec &target) const { return false; }

  /// Whether an fma of f32 vectors is an instruction. Elsewhere LowerFMA.cpp
  /// computes it in f64.
  virtual bool hasFMA(const TargetSpec &target) const { return true; }

  /// Lowers the vector-level ops (`ternary.dot`, ...) where the target has
  /// something better than the generic lowering, which is always there with a
  /// lower benefit.
  virtual void populateVectorLowerings(mlir::RewritePatternSet &patterns,
                                       const TargetSpec &target) const = 0;
};

/// The backends of this build, most specific first; the last one, Generic,
/// supports every target that LLVM does.
llvm::ArrayRef<const Backend *> getBackends();

/// The backend for `target`: the first that supports it.
const Backend &getBackend(const TargetSpec &target);

/// fma of f32 vectors in f64, for targets without the instruction.
void populateFMALowering(mlir::RewritePatternSet &patterns);

/// Vector-level ops as plain vector arithmetic, for any target.
void populateGenericVectorLowerings(mlir::RewritePatternSet &patterns);

} // namespace tercet

#endif // TERCET_COMPILER_TARGET_BACKEND_H
