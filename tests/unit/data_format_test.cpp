#include <gtest/gtest.h>

#include <cstdio>

#include "data_fixture.hpp"
#include "manifest.hpp"
#include "paceline/data/dataset.hpp"

// What docs/dataset-format.md promises: its example is a manifest, h5py reads what we write, and its Python
// program writes what we read.

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

/// The first block of `language` in the document.
std::string block_of(const std::string& language) {
  const fs::path here = __FILE__;
  const std::string text = read_bytes(here.parent_path() / "../../docs/dataset-format.md");
  const std::string begin = concat("```", language, "\n");
  const std::size_t at = text.find(begin);
  EXPECT_NE(at, std::string::npos) << "docs/dataset-format.md has no block of " << language;
  if (at == std::string::npos) return {};
  return text.substr(at + begin.size(), text.find("```", at + 3) - at - begin.size());
}

struct Ran {
  int status = 0;
  std::string output;
};

/// Runs a Python program from a file in `folder`; the system's Python, which sees Debian's packages.
Ran run_python(const TemporaryFolder& folder, const std::string& program) {
  write_bytes(folder / "program.py", program);
  Ran ran;
  FILE* pipe = ::popen(concat("/usr/bin/python3 ", folder / "program.py", " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  char block[512];
  while (std::fgets(block, sizeof block, pipe) != nullptr) ran.output += block;
  ran.status = ::pclose(pipe);
  return ran;
}

bool have_h5py(const TemporaryFolder& folder) {
  return run_python(folder, "import h5py").status == 0;
}

constexpr const char* expected_values = R"(
import numpy
def expected(samples):
    sample, at = numpy.ogrid[:samples, :784]
    values = (sample * 31 + at * 7) & 255
    for i in range(4):
        values[:, i] = (numpy.arange(samples) >> (8 * i)) & 255
    return values.astype('u1').reshape(samples, 1, 28, 28)
)";

TEST(Format, TheDocumentsExampleIsAManifest) {
  const std::string text = block_of("json");
  const Result<Manifest> manifest = parse_manifest(text, "docs/dataset-format.md");
  ASSERT_TRUE(manifest.ok()) << manifest.error().message;
  EXPECT_EQ(manifest->name, "fashion-mnist/test");
  EXPECT_EQ(manifest->samples, 10000);
  EXPECT_EQ(render_manifest(*manifest), text);
}

TEST(Format, H5pyReadsWhatWeWrite) {
  const TemporaryFolder folder;
  if (!have_h5py(folder)) GTEST_SKIP() << "install python3-h5py";
  const std::string train = make_dataset(folder, 250);
  const Ran ran = run_python(folder, concat(expected_values, "import h5py\ntrain = '", train, "'\n", R"(
files = [h5py.File(f'{train}/shard-{i:05}.h5') for i in range(3)]
values = numpy.concatenate([file['values'][...] for file in files])
labels = numpy.concatenate([file['labels'][...] for file in files])
assert values.dtype == 'u1' and labels.dtype == '<i4'
assert numpy.array_equal(values, expected(250))
assert numpy.array_equal(labels, numpy.arange(250) % 10)
for file in files:
    offset = file['values'].id.get_chunk_info(1).byte_offset
    assert file['index'].dtype == '<u8' and file['index'][1, 0] == offset
    assert numpy.all(file['index'][:, 1:3] == 16 * 784)
print('equal', len(values))
)"));
  EXPECT_EQ(ran.status, 0) << ran.output;
  EXPECT_EQ(ran.output, "equal 250\n");
}

/// The module that the document's program imports, over the C library, where Debian's package is not
/// installed.
constexpr const char* xxhash_stand_in = R"(
import sys, types
try:
    import xxhash
except ImportError:
    import ctypes
    library = ctypes.CDLL('libxxhash.so.0')
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    module = types.ModuleType('xxhash')
    module.xxh3_64_intdigest = lambda data: library.XXH3_64bits(bytes(data), len(data))
    module.xxh3_64_hexdigest = lambda data: f'{module.xxh3_64_intdigest(data):016x}'
    sys.modules['xxhash'] = module
)";

TEST(Format, TheDocumentsProgramWritesWhatWeRead) {
  const TemporaryFolder folder;
  if (!have_h5py(folder)) GTEST_SKIP() << "install python3-h5py";
  for (const std::int64_t samples : {1, 64, 100}) {
    const std::string set = folder / concat("set", samples);
    const Ran ran = run_python(
        folder, concat(xxhash_stand_in, block_of("python"), expected_values, "\nwrite_dataset('", set,
                       "', 'by hand', expected(", samples, "), numpy.arange(", samples, ") % 10, 10, 16)\n"));
    ASSERT_EQ(ran.status, 0) << ran.output;
    const Result<std::vector<std::string>> faults = verify_dataset(set);
    ASSERT_TRUE(faults.ok()) << faults.error().message;
    ASSERT_TRUE(faults->empty()) << faults->front();
    const Result<Dataset> dataset = Dataset::open(set);
    ASSERT_TRUE(dataset.ok()) << dataset.error().message;
    EXPECT_EQ(dataset->info().samples, samples);
    EXPECT_EQ(dataset->info().chunks, (samples + 15) / 16);
    const Result<Chunk> last = dataset->read_chunk(dataset->info().chunks - 1);
    ASSERT_TRUE(last.ok());
    EXPECT_EQ(sample_of(last->values.data() + (last->samples - 1) * image_bytes), samples - 1);
    EXPECT_EQ(last->labels.back(), label_of(samples - 1));
  }
}

}  // namespace
}  // namespace paceline
