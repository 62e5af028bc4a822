// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/ArtifactWriter.h"
#include "compiler/Emit/EmitObject.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/BinaryFormat/Magic.h"
#include "llvm/Object/ELF.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/LEB128.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"
#include <cerrno>
#include <condition_variable>
#include <fcntl.h>
#include <mutex>
#include <thread>
#include <unistd.h>

// LLVM hashes a buffer at once; the weights are hashed as they stream by.
#define XXH_INLINE_ALL
#include <xxhash.h>

using namespace llvm;
using namespace tercet;

namespace {

using ELFT = object::ELF64LE;

/// Written at once; a multiple of the largest page of the page cache, so that
/// the kernel can map the artifact by huge pages.
constexpr size_t kBlockSize = 4 * TERCET_BLOB_ALIGNMENT;
/// Small neighbouring pieces are produced together up to this size.
constexpr uint64_t kBatchSize = kBlockSize;
/// Alignment of sections other than the weights, and of piece buffers.
constexpr uint64_t kSectionAlignment = 64;

struct FreeDeleter {
  void operator()(uint8_t *p) const { std::free(p); }
};
using Buffer = std::unique_ptr<uint8_t[], FreeDeleter>;

Buffer allocateBuffer(size_t size) {
  return Buffer(static_cast<uint8_t *>(
      std::aligned_alloc(4096, alignTo(std::max<size_t>(size, 1), 4096))));
}

/// An open file that reports failures under its name.
class File {
public:
  static Expected<File> open(StringRef path) {
    int descriptor;
    if (std::error_code code = sys::fs::openFileForReadWrite(
            path, descriptor, sys::fs::CD_OpenExisting, sys::fs::OF_None))
      return createFileError(path, code);
    return File(path.str(), descriptor);
  }
  File(File &&other)
      : path(std::move(other.path)),
        descriptor(std::exchange(other.descriptor, -1)) {}
  File &operator=(File &&) = delete;
  ~File() {
    if (descriptor >= 0)
      ::close(descriptor);
  }

  Error write(uint64_t offset, ArrayRef<uint8_t> bytes) {
    while (!bytes.empty()) {
      ssize_t written =
          ::pwrite(descriptor, bytes.data(), bytes.size(), offset);
      if (written < 0) {
        if (errno == EINTR)
          continue;
        return lastError();
      }
      offset += written;
      bytes = bytes.drop_front(written);
    }
    return Error::success();
  }

  /// Claims the space, so that a full disk shows before any work is done.
  Error allocate(uint64_t offset, uint64_t size) {
    if (::fallocate(descriptor, 0, offset, size) == 0 || errno == EOPNOTSUPP ||
        errno == ENOSYS)
      return Error::success();
    if (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)
      return createStringError(
          formatv("{0}: the artifact needs {1:F1} GB more than fits here: {2}",
                  path, size / 1e9, std::strerror(errno)));
    return lastError();
  }

private:
  File(std::string path, int descriptor)
      : path(std::move(path)), descriptor(descriptor) {}
  Error lastError() const { return createFileError(path, errnoAsErrorCode()); }

  std::string path;
  int descriptor;
};

/// Turns a sequence of appends into writes of whole blocks and one hash.
class BlockStream {
public:
  BlockStream(File &file, uint64_t offset)
      : file(file), offset(offset), block(allocateBuffer(kBlockSize)) {
    XXH3_64bits_reset(&state);
  }

  Error append(ArrayRef<uint8_t> bytes) {
    XXH3_64bits_update(&state, bytes.data(), bytes.size());
    appended += bytes.size();
    while (!bytes.empty()) {
      size_t count = std::min(bytes.size(), kBlockSize - used);
      std::memcpy(block.get() + used, bytes.data(), count);
      used += count;
      bytes = bytes.drop_front(count);
      if (used == kBlockSize)
        if (Error error = flush())
          return error;
    }
    return Error::success();
  }

  Error padTo(uint64_t end) {
    static constexpr uint8_t kZeros[4096] = {};
    while (appended < end)
      if (Error error = append(ArrayRef(kZeros).take_front(end - appended)))
        return error;
    return Error::success();
  }

  Error flush() {
    Error error = file.write(offset, {block.get(), used});
    offset += used;
    used = 0;
    return error;
  }

  uint64_t size() const { return appended; }
  uint64_t hash() const { return XXH3_64bits_digest(&state); }

private:
  File &file;
  uint64_t offset;
  Buffer block;
  size_t used = 0;
  uint64_t appended = 0;
  XXH3_state_t state;
};

/// Produces weight pieces on several threads and commits them in order.
///
/// A thread takes the next batch, produces it into its own buffer, waits for
/// its turn and appends: production overlaps with writing, the file is
/// written from start to end, and no more than one batch a thread is held.
class WeightStreamer {
public:
  WeightStreamer(BlockStream &out, const BlobContents &contents,
                 const BlobWriteOptions &options)
      : out(out), contents(contents), options(options) {
    for (const WeightPiece &piece : contents.weights)
      pieces.push_back(&piece);
    llvm::sort(pieces, [](auto *a, auto *b) { return a->offset < b->offset; });
    for (size_t i = 0; i < pieces.size(); ++i)
      if (batches.empty() || endOf(i) - begin(batches.back()) > kBatchSize)
        batches.push_back({i, i + 1});
      else
        batches.back().end = i + 1;
  }

  Error run() {
    if (Error error = checkPieces())
      return error;
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < std::min<size_t>(options.threads, batches.size());
         ++i)
      threads.emplace_back([this] { work(); });
    work();
    for (std::thread &thread : threads)
      thread.join();
    if (failure)
      return std::move(failure);
    if (Error error = out.padTo(contents.weightsSize))
      return error;
    return out.flush();
  }

private:
  /// Pieces [begin, end).
  struct Batch {
    size_t begin, end;
  };

  uint64_t begin(const Batch &batch) const {
    return alignDown(pieces[batch.begin]->offset, kSectionAlignment);
  }
  uint64_t endOf(size_t piece) const {
    return pieces[piece]->offset + pieces[piece]->size;
  }

  Error checkPieces() const {
    uint64_t end = 0;
    for (size_t i = 0; i < pieces.size(); end = endOf(i++))
      if (pieces[i]->offset < end || endOf(i) > contents.weightsSize)
        return createStringError(
            "internal error: weight piece at offset %llu overlaps another or "
            "lies outside the section",
            static_cast<unsigned long long>(pieces[i]->offset));
    return Error::success();
  }

  void work() {
    Buffer buffer;
    size_t capacity = 0;
    for (;;) {
      std::unique_lock lock(mutex);
      if (failed || next == batches.size())
        return;
      size_t index = next++;
      lock.unlock();

      const Batch &batch = batches[index];
      size_t size = endOf(batch.end - 1) - begin(batch);
      if (size > capacity)
        buffer = allocateBuffer(capacity = size);
      Error error = produce(batch, {buffer.get(), size});

      lock.lock();
      turn.wait(lock, [&] { return failed || committed == index; });
      if (failed)
        return consumeError(std::move(error));
      lock.unlock(); // `committed` keeps the others out
      if (!error)
        error = commit(batch, {buffer.get(), size});

      lock.lock();
      if (error) {
        failed = true;
        failure = std::move(error);
      }
      ++committed;
      turn.notify_all();
    }
  }

  Error produce(const Batch &batch, MutableArrayRef<uint8_t> out) {
    std::fill(out.begin(), out.end(), 0);
    for (size_t i = batch.begin; i < batch.end; ++i)
      if (Error error = pieces[i]->write(
              out.slice(pieces[i]->offset - begin(batch), pieces[i]->size)))
        return error;
    return Error::success();
  }

  Error commit(const Batch &batch, ArrayRef<uint8_t> bytes) {
    // The previous batch may have ended inside this one's first 64 bytes.
    uint64_t start = std::max(begin(batch), out.size());
    if (Error error = out.padTo(start))
      return error;
    if (Error error = out.append(bytes.drop_front(start - begin(batch))))
      return error;
    if (options.progress)
      options.progress(out.size(), contents.weightsSize);
    return Error::success();
  }

  BlockStream &out;
  const BlobContents &contents;
  const BlobWriteOptions &options;
  std::vector<const WeightPiece *> pieces;
  std::vector<Batch> batches;

  std::mutex mutex;
  std::condition_variable turn;
  size_t next = 0, committed = 0;
  bool failed = false;
  Error failure = Error::success();
};

/// Where a linked file takes the blob.
class BlobPlace {
public:
  virtual ~BlobPlace() = default;

  /// In the file.
  uint64_t offset() const { return blobOffset; }

  /// Makes the file say that the blob is there.
  virtual Error apply(File &file, uint64_t size) = 0;

protected:
  uint64_t blobOffset;
};

/// Points the placeholder's section and segment at the blob.
class PlaceholderPatch : public BlobPlace {
public:
  static Expected<std::unique_ptr<BlobPlace>> create(StringRef image) {
    auto elf = object::ELFFile<ELFT>::create(image);
    if (!elf)
      return elf.takeError();
    auto patch = std::make_unique<PlaceholderPatch>();
    if (Error error = patch->findHeaders(*elf))
      return std::move(error);
    patch->blobOffset = alignTo(image.size(), TERCET_BLOB_ALIGNMENT);
    return patch;
  }

  Error apply(File &file, uint64_t size) override {
    section.sh_offset = blobOffset;
    section.sh_size = size;
    segment.p_offset = blobOffset;
    segment.p_filesz = size;
    segment.p_memsz = size;
    if (Error error = write(file, sectionOffset, section))
      return error;
    return write(file, segmentOffset, segment);
  }

private:
  Error findHeaders(const object::ELFFile<ELFT> &elf) {
    auto sections = elf.sections();
    if (!sections)
      return sections.takeError();
    auto segments = elf.program_headers();
    if (!segments)
      return segments.takeError();
    auto *header = find_if(*sections, [&](const ELFT::Shdr &candidate) {
      Expected<StringRef> name = elf.getSectionName(candidate);
      if (!name)
        consumeError(name.takeError());
      return name && *name == kBlobSection;
    });
    if (header == sections->end())
      return createStringError("internal error: no placeholder section");
    uint64_t lastAddress = 0;
    const ELFT::Phdr *own = nullptr;
    for (const ELFT::Phdr &candidate : *segments) {
      if (candidate.p_type != ELF::PT_LOAD)
        continue;
      lastAddress = std::max<uint64_t>(lastAddress, candidate.p_vaddr);
      if (candidate.p_vaddr == header->sh_addr)
        own = &candidate;
    }
    if (!own || own->p_vaddr != lastAddress ||
        own->p_memsz != kBlobPlaceholderSize)
      return createStringError(
          "internal error: the placeholder is not the last segment");
    section = *header;
    segment = *own;
    sectionOffset = reinterpret_cast<const uint8_t *>(header) - elf.base();
    segmentOffset = reinterpret_cast<const uint8_t *>(own) - elf.base();
    return Error::success();
  }

  template <typename T>
  static Error write(File &file, uint64_t offset, const T &value) {
    return file.write(
        offset, {reinterpret_cast<const uint8_t *>(&value), sizeof(value)});
  }

  ELFT::Shdr section;
  ELFT::Phdr segment;
  uint64_t sectionOffset, segmentOffset;
};

/// The last custom section of a WebAssembly module:
///   0, size of what follows (5 bytes of LEB128), length of name, name, blob
class CustomSection : public BlobPlace {
public:
  explicit CustomSection(uint64_t moduleSize) : start(moduleSize) {
    blobOffset = start + 1 + kNumberSize + nameSize();
  }

  Error apply(File &file, uint64_t size) override {
    SmallString<32> bytes;
    raw_svector_ostream out(bytes);
    out << '\0';
    encodeULEB128(nameSize() + size, out, kNumberSize);
    encodeULEB128(kBlobSection.size(), out);
    out << kBlobSection;
    return file.write(start, arrayRefFromStringRef(bytes.str()));
  }

private:
  static constexpr uint64_t kNumberSize = 5;
  static uint64_t nameSize() { return 1 + kBlobSection.size(); }

  uint64_t start;
};

/// The blob up to its weights: header, section table, small sections.
class BlobHead {
public:
  explicit BlobHead(const BlobContents &contents) : header(contents.header) {
    size_t numSections = contents.sections.size() + 1;
    bytes.resize(sizeof(header) + numSections * sizeof(tercet_section));
    for (const BlobSection &section : contents.sections) {
      bytes.resize(alignTo(bytes.size(), kSectionAlignment));
      table.push_back({section.kind, 0, bytes.size(), section.bytes.size(),
                       xxh3_64bits(section.bytes)});
      append_range(bytes, section.bytes);
    }
    bytes.resize(alignTo(bytes.size(), TERCET_BLOB_ALIGNMENT));
    table.push_back(
        {TERCET_SECTION_WEIGHTS, 0, bytes.size(), contents.weightsSize, 0});
    header.magic = TERCET_BLOB_MAGIC;
    header.version = TERCET_BLOB_VERSION;
    header.num_sections = numSections;
    header.size = bytes.size() + contents.weightsSize;
  }

  /// Of the weights in the blob.
  uint64_t size() const { return bytes.size(); }
  uint64_t blobSize() const { return header.size; }

  ArrayRef<uint8_t> finish(uint64_t weightsHash) {
    table.back().hash = weightsHash;
    header.header_hash = 0;
    copyHeader();
    header.header_hash = xxh3_64bits(ArrayRef<uint8_t>(
        bytes.data(), sizeof(header) + table.size() * sizeof(table[0])));
    copyHeader();
    return bytes;
  }

private:
  void copyHeader() {
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(bytes.data() + sizeof(header), table.data(),
                table.size() * sizeof(table[0]));
  }

  tercet_blob_header header;
  std::vector<tercet_section> table;
  std::vector<uint8_t> bytes;
};

} // namespace

static Expected<std::unique_ptr<BlobPlace>> findBlobPlace(StringRef path,
                                                          uint64_t blobSize) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false,
                                      /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createFileError(path, buffer.getError());
  StringRef image = (*buffer)->getBuffer();
  if (identify_magic(image) == file_magic::wasm_object) {
    if (!isUInt<32>(alignTo(blobSize, TERCET_BLOB_ALIGNMENT)))
      return createStringError(
          formatv("the model has {0:F1} GB, and WebAssembly's memory 4.3",
                  blobSize / 1e9));
    return std::make_unique<CustomSection>(image.size());
  }
  auto patch = PlaceholderPatch::create(image);
  if (!patch)
    return createFileError(path, patch.takeError());
  return patch;
}

Error tercet::writeBlob(StringRef path, const BlobContents &contents,
                        const BlobWriteOptions &options) {
  BlobHead head(contents);
  auto place = findBlobPlace(path, head.blobSize());
  if (!place)
    return place.takeError();
  auto file = File::open(path);
  if (!file)
    return file.takeError();

  uint64_t offset = (*place)->offset();
  if (Error error = file->allocate(offset, head.blobSize()))
    return error;
  BlockStream weights(*file, offset + head.size());
  if (Error error = WeightStreamer(weights, contents, options).run())
    return error;
  if (Error error = file->write(offset, head.finish(weights.hash())))
    return error;
  return (*place)->apply(*file, head.blobSize());
}
