// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// packed_matmul on windows that are read where they are, as ternary
// convolutions have them after ElideCopies: several dimensions of tokens and of
// columns, whose strides overlap.

#include "tests/conformance/CaseSupport.h"

#include "compiler/Support/PackedLayout.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "llvm/ADT/STLExtras.h"

using namespace tercet;
using namespace tercet::conformance;
using namespace tercet::reference;
using tercet::ternary::LayoutAttr;
using tercet::ternary::Packing;
using tercet::ternary::Schedule;

namespace {

/// A convolution with positions [.., oh, ow] of windows [.., kh, kw].
struct Convolution {
  int64_t rows, channels;
  llvm::SmallVector<int64_t> kernel, positions;
  int64_t images = 2, stride = 1, dilation = 1;
  /// Whether an image has one scale, which is read with strides of 0.
  bool hasImageScale = true;
  /// Whether each row of weights has a scale: a group of all columns.
  bool hasRowScales = false;

  size_t spatial() const { return kernel.size(); }
  /// Whether a row of the window is contiguous.
  bool hasRows() const { return dilation == 1; }
  int64_t rowSize() const { return (hasRows() ? kernel.back() : 1) * channels; }
};

/// Where q has its dimensions in the padded images: positions, the window, and
/// columns rounded up to 4, which are those beside it.
struct View {
  llvm::SmallVector<int64_t> sizes, strides;
  int64_t numBytes; ///< of the images
  size_t numTokenDims;

  llvm::ArrayRef<int64_t> tokens() const {
    return llvm::ArrayRef(sizes).take_front(numTokenDims);
  }
  llvm::ArrayRef<int64_t> columns() const {
    return llvm::ArrayRef(sizes).drop_front(numTokenDims);
  }
};

View makeView(const Convolution &c) {
  llvm::SmallVector<int64_t> image; // [.., lines, bytes of a line]
  for (auto [positions, taps] : llvm::zip_equal(c.positions, c.kernel))
    image.push_back((positions - 1) * c.stride + (taps - 1) * c.dilation + 1);
  // As gatherWindows pads the lines.
  int64_t aligned = llvm::alignTo(c.rowSize(), 4);
  image.back() += llvm::divideCeil(aligned - c.rowSize(), c.channels);
  image.back() *= c.channels;
  llvm::SmallVector<int64_t> steps = mlir::computeStrides(image);
  steps.back() = c.channels;

  int64_t imageBytes = mlir::computeProduct(image);
  View view = {
      {c.images}, {imageBytes}, c.images * imageBytes, 1 + c.spatial()};
  llvm::append_range(view.sizes, c.positions);
  for (int64_t step : steps)
    view.strides.push_back(step * c.stride);
  for (size_t i = 0; i < c.spatial() - c.hasRows(); ++i) {
    view.sizes.push_back(c.kernel[i]);
    view.strides.push_back(steps[i] * c.dilation);
  }
  view.sizes.push_back(aligned);
  view.strides.push_back(1);
  return view;
}

/// `memref<?x?x3x36xi8, strided<[?, 2, 40, 1]>>` with `numTokenDims` dynamic
/// sizes; the first stride, which is that of images, is not known.
std::string viewType(llvm::ArrayRef<int64_t> sizes,
                     llvm::ArrayRef<int64_t> strides, size_t numTokenDims,
                     llvm::StringRef element) {
  std::string type = "memref<";
  for (auto [i, size] : llvm::enumerate(sizes))
    type += (i < numTokenDims ? "?" : std::to_string(size)) + "x";
  type += element.str() + ", strided<[?";
  for (int64_t stride : strides.drop_front())
    type += ", " + std::to_string(stride);
  return type + "]>>";
}

template <size_t Rank, typename T>
MemRef<T, Rank> makeStrided(std::vector<T> &data, llvm::ArrayRef<int64_t> sizes,
                            llvm::ArrayRef<int64_t> strides) {
  MemRef<T, Rank> memref = {data.data(), data.data(), 0, {}, {}};
  llvm::copy(sizes, memref.sizes.begin());
  llvm::copy(strides, memref.strides.begin());
  return memref;
}

/// With q of `TokenDims` and `ColumnDims` dimensions.
template <size_t TokenDims, size_t ColumnDims>
void runWindows(const TargetSpec &target, const Convolution &c,
                LayoutAttr layout) {
  View view = makeView(c);
  int64_t width = llvm::alignTo(c.rows, ternary::kRowGroup);
  int64_t columns = mlir::computeProduct(view.columns());
  int64_t numTokens = mlir::computeProduct(view.tokens());
  int64_t group = llvm::alignTo(columns, ternary::kRowGroup);
  int64_t rowGroups = width / ternary::kRowGroup;

  Random random(columns * 31 + c.rows);
  std::vector<int8_t> images(view.numBytes);
  for (int8_t &byte : images)
    byte = random.integer(-128, 127);
  // Columns beside the window have weights of zero.
  Bytes weights({width, columns});
  for (int64_t m = 0; m < c.rows; ++m)
    for (int64_t k = 0; k < columns; ++k)
      if (k % view.sizes.back() < c.rowSize())
        weights.row(m)[k] = random.integer(-1, 1);

  Bytes q({numTokens, columns});
  llvm::SmallVector<int64_t> order = mlir::computeStrides(view.sizes);
  for (int64_t i = 0; i < numTokens * columns; ++i) {
    int64_t place = 0;
    for (auto [index, stride] :
         llvm::zip_equal(mlir::delinearize(i, order), view.strides))
      place += index * stride;
    q.data[i] = images[place];
  }
  Floats scale({numTokens}),
      scales = c.hasRowScales
                   ? random.floats({rowGroups, 1, ternary::kRowGroup})
                   : random.floats({rowGroups});
  Ints sum({numTokens}), acc({numTokens, width});
  for (int64_t n = 0; n < numTokens; ++n) {
    int64_t scaled = c.hasImageScale ? n * c.images / numTokens : n;
    scale.data[n] = (1 + scaled * 37 % 1000) / 7.0f;
    sum.data[n] = llvm::sum_of(q.row(n), 0);
  }
  if (c.hasRowScales)
    acc = Ints({numTokens, 1, width});
  reference::matmul(q, weights, 0, acc,
                    c.hasRowScales ? std::optional(group) : std::nullopt);
  Floats expected = rescaleAll(acc, scale, scales);

  std::vector<uint8_t> packed(layout.getPackedBytes(width, columns));
  packTrits(layout, weights.data, columns, packed);

  auto addDim = [](llvm::SmallVector<int64_t> dims, int64_t size) {
    dims.push_back(size);
    return dims;
  };
  // One after the other, but for a gap between rows of the result.
  llvm::SmallVector<int64_t> tokenStrides = mlir::computeStrides(view.tokens()),
                             scaleStrides = tokenStrides, yStrides;
  std::vector<float> scaleMemory = scale.data;
  if (c.hasImageScale) {
    scaleStrides.assign(TokenDims, 0);
    scaleStrides[0] = 1;
    for (int64_t image = 0; image < c.images; ++image)
      scaleMemory[image] = scale.data[image * tokenStrides[0]];
    scaleMemory.resize(c.images);
  }
  int64_t rowStride = width + kRowGap;
  for (int64_t stride : tokenStrides)
    yStrides.push_back(stride * rowStride);
  yStrides.push_back(1);
  llvm::SmallVector<int64_t> ySizes =
                                 addDim(llvm::to_vector(view.tokens()), width),
                             sumSizes = llvm::to_vector(view.tokens()),
                             sumStrides = tokenStrides;
  if (c.hasRowScales) {
    sumSizes.push_back(1);
    sumStrides.push_back(1);
  }
  std::string layoutText, groupText;
  llvm::raw_string_ostream(layoutText) << layout;
  if (c.hasRowScales)
    groupText = llvm::formatv(" group = {0}", group);
  std::string qType = viewType(view.sizes, view.strides, TokenDims, "i8"),
              scaleType =
                  viewType(view.tokens(), scaleStrides, TokenDims, "f32"),
              sumType = viewType(sumSizes, sumStrides, TokenDims, "i32"),
              yType = viewType(ySizes, yStrides, TokenDims, "f32"),
              wType = memrefType(packed.size(), "i8"),
              scalesType = memrefType(scales.shape, "f32");
  KernelJIT &run = compile(
      target,
      llvm::formatv("%q: {0}, %scale: {1}, %sum: {2}, %w: {3}, %scales: {4}, "
                    "%y: {5}",
                    qType, scaleType, sumType, wType, scalesType, yType),
      llvm::formatv(
          "ternary.packed_matmul {0}{1} ins(%q, %scale, %sum, %w, %scales : "
          "{2}, {3}, {4}, {5}, {6}) outs(%y : {7})",
          layoutText.substr(kLayoutPrefix.size()), groupText, qType, scaleType,
          sumType, wType, scalesType, yType));

  // All positions; of each image the first one, and some of the last lines.
  llvm::SmallVector<int64_t> one(TokenDims, 1), some(view.tokens());
  one[0] = c.images;
  some.back() = (some.back() + 1) / 2;
  some[0] = 1;
  for (llvm::ArrayRef<int64_t> tokens :
       {view.tokens(), llvm::ArrayRef(one), llvm::ArrayRef(some)}) {
    std::vector<float> y(numTokens * rowStride, kUntouched), wanted = y;
    for (int64_t n = 0; n < numTokens; ++n) {
      llvm::SmallVector<int64_t> at = mlir::delinearize(n, tokenStrides);
      if (llvm::all_of(llvm::zip_equal(at, tokens), [](auto pair) {
            return std::get<0>(pair) < std::get<1>(pair);
          }))
        llvm::copy(expected.row(n), &wanted[n * rowStride]);
    }
    auto sizes = llvm::to_vector(tokens), columnSizes = sizes;
    llvm::append_range(columnSizes, view.columns());
    auto runWith = [&](auto sums, auto scales) {
      run(makeStrided<TokenDims + ColumnDims>(images, columnSizes,
                                              view.strides),
          makeStrided<TokenDims>(scaleMemory, sizes, scaleStrides), sums,
          makeMemRef(packed), scales,
          makeStrided<TokenDims + 1>(y, addDim(sizes, width), yStrides));
    };
    if (c.hasRowScales)
      runWith(
          makeStrided<TokenDims + 1>(sum.data, addDim(sizes, 1), sumStrides),
          makeContiguous<float, 3>(scales.data.data(),
                                   {rowGroups, 1, ternary::kRowGroup}));
    else
      runWith(makeStrided<TokenDims>(sum.data, sizes, sumStrides),
              makeMemRef(scales.data));
    for (int64_t i = 0, e = y.size(); i < e; ++i)
      ASSERT_EQ(std::memcmp(&y[i], &wanted[i], sizeof(float)), 0)
          << "window " << i / rowStride << " of " << numTokens << ", column "
          << i % rowStride << ": " << y[i] << ", expected " << wanted[i];
  }
}

void runConvolution(const TargetSpec &target, const Convolution &c,
                    LayoutAttr layout) {
  switch (c.spatial() * 2 + c.hasRows()) {
  case 2:
    return runWindows<2, 2>(target, c, layout);
  case 3:
    return runWindows<2, 1>(target, c, layout);
  case 4:
    return runWindows<3, 3>(target, c, layout);
  case 5:
    return runWindows<3, 2>(target, c, layout);
  case 7:
    return runWindows<4, 3>(target, c, layout);
  }
  llvm_unreachable("no case has another window");
}

/// Each packing that reads windows, with the schedule of the backend, or as
/// `change` makes it.
void addConvolution(std::vector<Case> &cases, llvm::StringRef name, bool isFast,
                    Convolution c,
                    std::function<void(Schedule &)> change = nullptr) {
  for (Packing packing : {Packing::I2, Packing::T5, Packing::T3})
    cases.push_back(
        {llvm::formatv("matmul_{0}_windows_{1}_{2}x{3}",
                       stringifyPacking(packing), name, c.rows, c.channels),
         isFast,
         [=](const TargetSpec &target) {
           mlir::MLIRContext context;
           context.loadDialect<ternary::TernaryDialect>();
           int64_t columns = mlir::computeProduct(makeView(c).columns());
           Schedule schedule = getBackend(target).getSchedule(
               packing, {c.rows, columns, c.hasRowScales ? columns : 0},
               target);
           if (change)
             change(schedule);
           runConvolution(target, c,
                          LayoutAttr::getTrits(&context, packing, schedule));
         },
         /*hasDots=*/true});
}

} // namespace

void tercet::conformance::addWindowCases(std::vector<Case> &cases) {
  // Lines of a window that are no multiple of 4 columns; a strip, tiles and
  // strips; lines of positions with any rest of what a register tile takes.
  addConvolution(cases, "3x3", true, {16, 1, {3, 3}, {5, 7}});
  addConvolution(cases, "3x3", true, {80, 6, {3, 3}, {3, 11}});
  for (int64_t positions : {1, 2, 3, 4, 5, 6, 8, 13})
    addConvolution(cases, "line" + std::to_string(positions), false,
                   {48, 4, {2, 3}, {2, positions}});
  addConvolution(cases, "3x3", false, {144, 16, {3, 3}, {4, 9}});
  // Strides, dilation, a window of one pixel, one line, three dimensions.
  addConvolution(cases, "3x5_stride2", false,
                 {.rows = 80,
                  .channels = 6,
                  .kernel = {3, 5},
                  .positions = {3, 7},
                  .stride = 2});
  addConvolution(cases, "3x3_dilation2", true,
                 {.rows = 80,
                  .channels = 6,
                  .kernel = {3, 3},
                  .positions = {3, 7},
                  .stride = 3,
                  .dilation = 2});
  addConvolution(cases, "1x1", false, {80, 20, {1, 1}, {3, 7}});
  addConvolution(cases, "5", true, {80, 3, {5}, {17}});
  addConvolution(cases, "3_dilation2", false,
                 {.rows = 16,
                  .channels = 5,
                  .kernel = {3},
                  .positions = {9},
                  .dilation = 2});
  addConvolution(cases, "2x3x2", false, {32, 6, {2, 3, 2}, {2, 3, 5}});
  // A scale for each position, and for each row of weights.
  addConvolution(cases, "3x3_scales", false,
                 {.rows = 80,
                  .channels = 6,
                  .kernel = {3, 3},
                  .positions = {3, 7},
                  .hasImageScale = false});
  for (int64_t channels : {1, 6})
    addConvolution(cases, "3x3_rows", channels == 6,
                   {.rows = 80,
                    .channels = channels,
                    .kernel = {3, 3},
                    .positions = {3, 7},
                    .hasRowScales = true});
  // So many positions and columns that tiles are unpacked, in panels that end
  // within lines of the window; one image.
  addConvolution(cases, "panels", true,
                 {80, 32, {3, 3}, {2, 25}, /*images=*/1});
  addConvolution(cases, "panels", false,
                 {80, 44, {3, 4}, {1, 99}, /*images=*/1});
  // Blocks of windows, of which the last is not full, also where no matrix unit
  // multiplies them.
  auto useBlocks = [](Schedule &schedule) { schedule.blocks = true; };
  addConvolution(cases, "blocks", true, {80, 6, {3, 4}, {5, 7}}, useBlocks);
  addConvolution(cases, "blocks", false, {144, 64, {3, 3}, {5, 7}, 4},
                 useBlocks);
}
