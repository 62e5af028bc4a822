// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Emit/ArtifactWriter.h"
#include "compiler/Emit/Link.h"
#include "compiler/Emit/OutputFile.h"
#include "tests/emit/TestModule.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/xxhash.h"
#include <atomic>
#include <numeric>

using namespace llvm;
using namespace tercet;
using namespace tercet::test;

namespace {

/// A linked program in a directory of its own.
class ArtifactWriter : public testing::Test {
protected:
  void SetUp() override {
    SmallString<128> name;
    ASSERT_FALSE(sys::fs::createUniqueDirectory("tercet-test", name));
    directory = name.str().str();
    path = directory + "/program";
    SmallString<0> object = emit(kLastByteProgram, "native", CodeKind::Object);
    LinkJob job;
    job.target = cantFail(parseTarget("native"));
    job.objects = {object};
    Error error = link(job, path);
    ASSERT_FALSE(error) << toString(std::move(error));
  }
  void TearDown() override { sys::fs::remove_directories(directory); }

  std::string write(const BlobContents &contents,
                    const BlobWriteOptions &options = {}) {
    return toString(writeBlob(path, contents, options));
  }

  int run() { return sys::ExecuteAndWait(path, {path}); }

  std::string directory, path;
};

/// `size` bytes of weights in pieces of `pieceSize`, the last byte `last`.
BlobContents makeContents(uint64_t size, uint64_t pieceSize, uint8_t last) {
  BlobContents contents;
  contents.weightsSize = size;
  for (uint64_t offset = 0; offset < size; offset += pieceSize) {
    uint64_t count = std::min(pieceSize, size - offset);
    contents.weights.push_back(
        {offset, count, [=](MutableArrayRef<uint8_t> out) {
           for (uint64_t i = 0; i < std::min<uint64_t>(count, 4096); ++i)
             out[i] = (offset + i) * 7 >> 3;
           if (offset + count == size)
             out.back() = last;
           return Error::success();
         }});
  }
  return contents;
}

} // namespace

TEST_F(ArtifactWriter, BlobHoldsWhatTheContractSays) {
  BlobContents contents = makeContents(20 << 20, 300001, 42);
  contents.header.vocab_size = 7;
  contents.sections = {{TERCET_SECTION_INFO, "{}"},
                       {TERCET_SECTION_CHAT_TEMPLATE, "hello"}};
  std::swap(contents.weights[1], contents.weights[5]); // any order
  std::atomic<uint64_t> done = 0;
  BlobWriteOptions options;
  options.threads = 3;
  options.progress = [&](uint64_t now, uint64_t total) {
    EXPECT_GT(now, done);
    EXPECT_EQ(total, uint64_t(20 << 20));
    done = now;
  };
  ASSERT_EQ(write(contents, options), "");
  EXPECT_EQ(done, uint64_t(20 << 20));

  auto buffer = cantFail(errorOrToExpected(MemoryBuffer::getFile(path)));
  StringRef file = buffer->getBuffer();
  uint64_t blobSize = (22 << 20);
  StringRef blob = file.take_back(blobSize);
  tercet_blob_header header;
  std::memcpy(&header, blob.data(), sizeof(header));
  EXPECT_EQ(header.magic, TERCET_BLOB_MAGIC);
  EXPECT_EQ(header.size, blobSize);
  EXPECT_EQ(header.vocab_size, 7u);
  EXPECT_EQ((blob.data() - file.data()) % TERCET_BLOB_ALIGNMENT, 0u);
  ASSERT_EQ(header.num_sections, 3u);

  std::vector<tercet_section> sections(3);
  size_t tableSize = sizeof(tercet_section) * 3;
  std::memcpy(sections.data(), blob.data() + sizeof(header), tableSize);
  for (const tercet_section &section : sections)
    EXPECT_EQ(section.hash,
              xxh3_64bits(blob.substr(section.offset, section.size)));
  EXPECT_EQ(sections[1].kind, uint32_t(TERCET_SECTION_CHAT_TEMPLATE));
  EXPECT_EQ(blob.substr(sections[1].offset, sections[1].size), "hello");
  EXPECT_EQ(sections[2].kind, uint32_t(TERCET_SECTION_WEIGHTS));
  EXPECT_EQ(sections[2].offset % TERCET_BLOB_ALIGNMENT, 0u);

  std::string head = blob.take_front(sizeof(header) + tableSize).str();
  std::memset(head.data() + offsetof(tercet_blob_header, header_hash), 0, 8);
  EXPECT_EQ(header.header_hash, xxh3_64bits(head));
}

TEST_F(ArtifactWriter, ThreadsDoNotChangeTheFile) {
  std::string original = path;
  std::vector<std::string> files;
  for (unsigned threads : {1, 2, 5}) {
    path = original + std::to_string(threads);
    ASSERT_FALSE(sys::fs::copy_file(original, path));
    BlobWriteOptions options;
    options.threads = threads;
    ASSERT_EQ(write(makeContents((30 << 20) + 5, 1 << 20, 1), options), "");
    files.push_back(cantFail(errorOrToExpected(MemoryBuffer::getFile(path)))
                        ->getBuffer()
                        .str());
  }
  EXPECT_TRUE(files[0] == files[1] && files[1] == files[2]);
}

TEST_F(ArtifactWriter, RunsAlsoStrippedAndDeleted) {
  ASSERT_EQ(write(makeContents(5 << 20, 1 << 20, 42)), "");
  EXPECT_EQ(run(), 42);
  for (StringRef name : {"strip", "llvm-strip-22"}) {
    auto strip = sys::findProgramByName(name);
    if (!strip)
      continue;
    std::string stripped = path + name.str();
    ASSERT_EQ(sys::ExecuteAndWait(*strip, {name, path, "-o", stripped}), 0);
    EXPECT_EQ(sys::ExecuteAndWait(stripped, {stripped}), 42) << name.str();
  }
}

TEST_F(ArtifactWriter, UncoveredBytesAreZero) {
  BlobContents contents;
  contents.weightsSize = 3 << 20;
  contents.weights = {{100, 50, [](MutableArrayRef<uint8_t> out) {
                         EXPECT_TRUE(all_of(out, [](auto b) { return !b; }));
                         std::fill(out.begin(), out.end(), 9);
                         return Error::success();
                       }}};
  ASSERT_EQ(write(contents), "");
  auto buffer = cantFail(errorOrToExpected(MemoryBuffer::getFile(path)));
  StringRef weights = buffer->getBuffer().take_back(3 << 20);
  EXPECT_EQ(std::accumulate(weights.begin(), weights.end(), 0), 50 * 9);
  EXPECT_EQ(weights[100], 9);
}

TEST_F(ArtifactWriter, ErrorOfAPieceIsReported) {
  BlobContents contents = makeContents(64 << 20, 4 << 20, 0);
  contents.weights[9].write = [](MutableArrayRef<uint8_t>) {
    return createStringError("cannot read model");
  };
  EXPECT_EQ(write(contents), "cannot read model");
}

TEST_F(ArtifactWriter, OverlapIsAnInternalError) {
  BlobContents contents = makeContents(100, 10, 0);
  contents.weights[3].size = 11;
  EXPECT_NE(write(contents).find("offset 40 overlaps"), std::string::npos);
}

TEST_F(ArtifactWriter, SizeThatDoesNotFit) {
  BlobContents contents;
  contents.weightsSize = uint64_t(1) << 46;
  EXPECT_NE(write(contents).find("GB more than fits here"), std::string::npos);
}

// Beyond the reach of 32-bit displacements: the code is not moved by it.
TEST_F(ArtifactWriter, DISABLED_MoreThanTwoGigabytes) {
  ASSERT_EQ(write(makeContents((uint64_t(2300) << 20), 8 << 20, 43)), "");
  EXPECT_EQ(run(), 43);
}

TEST(OutputFile, UnwritableNamesGiveOneLine) {
  auto errorOf = [](StringRef path) {
    auto file = OutputFile::create(path);
    return file ? "no error" : toString(file.takeError());
  };
  EXPECT_EQ(errorOf("/tmp"), "'/tmp' is a directory; give the name of a file");
  EXPECT_EQ(errorOf("/dev/null"), "'/dev/null' is not a regular file");
  EXPECT_EQ(errorOf("/no/such/out"),
            "cannot write to directory '/no/such': No such file or directory");
}

TEST(OutputFile, NothingIsLeftUnlessCommitted) {
  SmallString<128> directory;
  ASSERT_FALSE(sys::fs::createUniqueDirectory("tercet-test", directory));
  std::string path = (directory + "/out").str();
  {
    auto file = cantFail(OutputFile::create(path));
  }
  std::error_code code;
  EXPECT_EQ(sys::fs::directory_iterator(directory, code),
            sys::fs::directory_iterator());
  cantFail(writeOutput(path, "text"));
  cantFail(writeOutput(path, "more"));
  EXPECT_EQ((*MemoryBuffer::getFile(path))->getBuffer(), "more");
  sys::fs::remove_directories(directory);
}
