#include <gtest/gtest.h>

#include "data_damage.hpp"
#include "data_python.hpp"

// What docs/dataset-format.md promises: its example is a manifest, h5py reads what we write, and its Python
// programs write what we read and read what we write.

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

/// Block `number` of `language` in the document.
std::string block_of(const std::string& language, int number = 0) {
  const std::string text = read_bytes(PACELINE_DOCS "/dataset-format.md");
  const std::string begin = concat("```", language, "\n");
  std::size_t at = text.find(begin);
  for (; number > 0 && at != std::string::npos; --number) at = text.find(begin, at + 1);
  EXPECT_NE(at, std::string::npos) << "docs/dataset-format.md has too few blocks of " << language;
  if (at == std::string::npos) return {};
  return text.substr(at + begin.size(), text.find("```", at + 3) - at - begin.size());
}

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
  const std::string missing = missing_package(folder, {"h5py"});
  if (!missing.empty()) GTEST_SKIP() << missing;
  write_images(folder / "set", {});
  const Ran ran =
      run_python(folder, concat(expected_values, "import h5py\nset = '", folder / "set", "'\n", R"(
files = [h5py.File(f'{set}/shard-{i:05}.h5') for i in range(3)]
values = numpy.concatenate([file['values'][...] for file in files])
labels = numpy.concatenate([file['labels'][...] for file in files])
assert values.dtype == 'u1' and labels.dtype == '<i4'
assert numpy.array_equal(values, expected(250, (1, 28, 28)))
assert numpy.array_equal(labels, numpy.arange(250) % 10)
for file in files:
    for chunk in range(len(file['index'])):
        offset, stored, raw, checksum = (int(value) for value in file['index'][chunk])
        info = [file[name].id.get_chunk_info_by_coord((chunk * 16,) + (0,) * (file[name].ndim - 1)) for name in ('values', 'labels')]
        assert stored == raw == 16 * 784 + 16 * 4
        assert info[0].byte_offset == offset and info[1].byte_offset == offset + 16 * 784
print('equal', len(values))
)"));
  EXPECT_EQ(ran.status, 0) << ran.output;
  EXPECT_EQ(ran.output, "equal 250\n");
}

TEST(Format, H5pyReadsTokensThatWeWrite) {
  const TemporaryFolder folder;
  const std::string missing = missing_package(folder, {"h5py"});
  if (!missing.empty()) GTEST_SKIP() << missing;
  const TokenSet set = {ElementType::u16, Storage::raw, 700, 64, 300};
  write_tokens(folder / "set", set);
  write_bytes(folder / "tokens", token_bytes_of(set, 0, 700));
  const Ran ran = run_python(folder, concat("import h5py, numpy\nfolder = '", folder.path(), "'\n", R"(
files = [h5py.File(f'{folder}/set/shard-{i:05}.h5') for i in range(3)]
tokens = numpy.fromfile(f'{folder}/tokens', '<u2')
assert numpy.array_equal(numpy.concatenate([file['values'][...] for file in files]), tokens)
following = [token for file in files for token in file['following'][...]]
ends = [min(begin + 64 * (i + 1), min(begin + 300, 700)) for begin in (0, 300, 600) for i in range((min(300, 700 - begin) + 63) // 64)]
assert following == [tokens[end] if end < 700 else 0 for end in ends]
print('equal')
)"));
  EXPECT_EQ(ran.output, "equal\n");
}

TEST(Format, TheDocumentsProgramWritesWhatWeRead) {
  const TemporaryFolder folder;
  const std::string missing = missing_package(folder, {"h5py", "xxhash"});
  if (!missing.empty()) GTEST_SKIP() << missing;
  for (const std::int64_t samples : {1, 64, 100}) {
    const std::string set = folder / concat("set", samples);
    const Ran ran = run_python(folder, concat(block_of("python"), expected_values, "\nwrite_dataset('", set,
                                              "', 'by hand', expected(", samples,
                                              ", (1, 28, 28)), numpy.arange(", samples, ") % 10, 10, 16)\n"));
    ASSERT_EQ(ran.status, 0) << ran.output;
    EXPECT_EQ(fault_of(set), "");
    const Result<Dataset> dataset = Dataset::open(set);
    ASSERT_TRUE(dataset.ok()) << dataset.error().message;
    EXPECT_EQ(dataset->info().samples, samples);
    EXPECT_EQ(dataset->info().chunks, (samples + 15) / 16);
    const Result<Chunk> last = dataset->read_chunk(dataset->info().chunks - 1);
    ASSERT_TRUE(last.ok());
    EXPECT_EQ(sample_of(last->sample(last->samples() - 1).data()), samples - 1);
    EXPECT_EQ(last->label(last->samples() - 1), label_of(samples - 1));
  }
}

TEST(Format, TheDocumentsProgramReadsEveryStorage) {
  const TemporaryFolder folder;
  const std::string missing = missing_package(folder, {"h5py", "zstandard", "lz4"});
  if (!missing.empty()) GTEST_SKIP() << missing;
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4}) {
    const ImageSet set = {storage, 250, 16, 100, Content::mixed};  // some chunks are stored as they are
    const std::string path = folder / std::string(to_string(storage));
    write_images(path, set);
    std::string all;
    for (std::int64_t sample = 0; sample < set.samples; ++sample) all += sample_bytes_of(set, sample);
    write_bytes(folder / "expected", all);
    const Ran ran = run_python(folder, concat(block_of("python", 1), "folder = '", path, "'\n", R"(
files = [h5py.File(f'{folder}/shard-{i:05}.h5') for i in range(3)]
values = numpy.concatenate([read_chunk(file, i) for file in files for i in range(len(file['index']))])
assert values.tobytes() == open(f'{folder}/../expected', 'rb').read()
print(values.shape)
)"));
    EXPECT_EQ(ran.output, "(250, 1, 28, 28)\n") << to_string(storage);
  }
}

/// Makes a dataset of the JPEG files jpeg-0, jpeg-1, ... of a folder: 32x24, 3 channels.
void write_jpegs(const TemporaryFolder& folder, const std::string& path, std::int64_t samples) {
  fs::create_directory(path);
  Manifest manifest;
  manifest.name = "jpegs";
  manifest.storage = Storage::jpeg;
  manifest.sample_shape = {24, 32, 3};
  manifest.layout = ImageLayout::hwc;
  manifest.classes = 10;
  manifest.samples = samples;
  manifest.chunk_samples = 8;
  manifest.mean = manifest.standard_deviation = {0.5, 0.5, 0.5};
  ShardBuilder builder(manifest);
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    const std::string file = read_bytes(folder / concat("jpeg-", sample));
    expect_added(builder.add(std::as_bytes(std::span(file)), static_cast<std::int32_t>(label_of(sample))));
  }
  expect_shard(builder.write({path, 0}, path, shard_name(0)), manifest);
  manifest.largest_record_bytes = builder.largest_record_bytes();
  finish_dataset(path, manifest);
}

TEST(Format, TheDocumentsProgramReadsJpegs) {
  const TemporaryFolder folder;
  const std::string missing = missing_package(folder, {"h5py", "PIL"});
  if (!missing.empty()) GTEST_SKIP() << missing;
  const Ran made = run_python(folder, concat("folder = '", folder.path(), "'\n", R"(
import numpy, PIL.Image
for i in range(21):
    image = numpy.add.outer(numpy.arange(24) * 7, numpy.arange(32) * 3)[..., None] + numpy.array([i, 2 * i, 90])
    PIL.Image.fromarray(image.astype('u1')).save(f'{folder}/jpeg-{i}', 'JPEG', quality=50 + i)
)"));
  ASSERT_EQ(made.status, 0) << made.output;
  write_jpegs(folder, folder / "set", 21);
  EXPECT_EQ(fault_of(folder / "set"), "");
  const Result<Dataset> dataset = Dataset::open(folder / "set");
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  const Result<Chunk> chunk = dataset->read_chunk(2);
  const std::string last = read_bytes(folder / "jpeg-20");
  ASSERT_EQ(chunk->samples(), 5);
  ASSERT_EQ(chunk->sample(4).size(), last.size());
  EXPECT_EQ(std::memcmp(chunk->sample(4).data(), last.data(), last.size()), 0);
  const Ran ran = run_python(folder, concat(block_of("python", 1), "folder = '", folder.path(), "'\n", R"(
import PIL.Image
file = h5py.File(f'{folder}/set/shard-00000.h5')
images = [image for chunk in range(3) for image in read_chunk(file, chunk)]
for i, image in enumerate(images):
    assert image.shape == file['values'].shape[1:]
    assert numpy.array_equal(image, numpy.asarray(PIL.Image.open(f'{folder}/jpeg-{i}')))
print(len(images))
)"));
  EXPECT_EQ(ran.output, "21\n");
}

}  // namespace
}  // namespace paceline
