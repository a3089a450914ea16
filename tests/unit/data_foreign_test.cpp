#include <gtest/gtest.h>
#include <sys/resource.h>

#include "data_damage.hpp"
#include "data_python.hpp"
#include "paceline/data/foreign.hpp"

// HDF5 files that someone else made, here with h5py: those that can be used where they lie, and each reason
// for which one cannot.

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

ForeignOptions options_for(const TemporaryFolder& folder, const std::string& file) {
  ForeignOptions options;
  options.files = {folder / file};
  options.values = "/images";
  options.out = folder / concat("set-", file);
  return options;
}

std::string import_error(const ForeignOptions& options) {
  const Status imported = import_foreign(options);
  return imported.ok() ? "imported" : imported.error().message;
}

constexpr const char* good_files = R"(
import h5py, os
os.chdir(FOLDER)
def write(name, shape, samples=100, labels='i8', userblock=0, libver=None, **how):
    with h5py.File(name, 'w', userblock_size=userblock, libver=libver) as file:
        file.create_dataset('images', data=expected(samples, shape), **how)
        file['labels'] = (numpy.arange(samples) % 10).astype(labels)
write('contiguous.h5', (5, 7))
write('flat.h5', (12,), labels='u1')
write('flat_chunks.h5', (12,), chunks=(16, 12), labels='u8')
write('chunked.h5', (5, 7, 3), chunks=(16, 5, 7, 3), labels='i2')
write('gzip.h5', (5, 7, 3), chunks=(16, 5, 7, 3), compression='gzip', labels='>i4')
write('shuffled.h5', (3, 5, 7), chunks=(7, 3, 5, 7), compression='gzip', shuffle=True, labels='u4')
write('only_shuffled.h5', (3, 5, 7), chunks=(7, 3, 5, 7), shuffle=True)
write('latest.h5', (5, 7), chunks=(9, 5, 7), compression='gzip', libver='latest')
write('resizable.h5', (5, 7), chunks=(9, 5, 7), maxshape=(None, 5, 7), libver='latest')
write('large_chunk.h5', (5, 7), chunks=(128, 5, 7), maxshape=(None, 5, 7), compression='gzip')
write('one_chunk.h5', (5, 7), chunks=(100, 5, 7))
write('user_block.h5', (5, 7), userblock=1024)
write('user_block_chunks.h5', (5, 7), chunks=(9, 5, 7), userblock=512)
write('user_block_gzip.h5', (5, 7), chunks=(9, 5, 7), userblock=2048, compression='gzip', libver='latest')
write('many.h5', (5, 7), samples=2000, chunks=(1, 5, 7))
with h5py.File('masked.h5', 'w') as file:  # every other chunk has skipped its filters
    values = expected(100, (5, 7))
    images = file.create_dataset('images', values.shape, 'u1', chunks=(16, 5, 7), compression='gzip', shuffle=True)
    images[...] = values
    for i in range(0, 96, 32):
        images.id.write_direct_chunk((i, 0, 0), values[i:i + 16].tobytes(), filter_mask=2)
    edge = numpy.zeros((16, 5, 7), 'u1')
    edge[:4] = values[96:]
    images.id.write_direct_chunk((96, 0, 0), edge.tobytes(), filter_mask=3)
    file['labels'] = numpy.arange(100).reshape(100, 1) % 10
with h5py.File('backwards.h5', 'w') as file:  # offsets do not ascend
    values = expected(100, (5, 7))
    images = file.create_dataset('images', values.shape, 'u1', chunks=(16, 5, 7))
    for i in reversed(range(0, 100, 16)):
        images[i:i + 16] = values[i:i + 16]
    file['labels'] = numpy.arange(100) % 10
)";

class Foreign : public testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = missing_package(folder, {"h5py"});
    if (!missing.empty()) GTEST_SKIP() << missing;
  }
  void write(const char* program) {
    const Ran ran = run_python(folder, concat("FOLDER = '", folder.path(), "'\n", expected_values, program));
    ASSERT_EQ(ran.status, 0) << ran.output;
  }
  /// a.h5, 100 samples in gzip chunks of 16, and the dataset that uses it.
  ForeignOptions import_compressed_file() {
    write(R"(
import h5py
with h5py.File(f'{FOLDER}/a.h5', 'w') as file:
    file.create_dataset('images', data=expected(100, (5, 7)), chunks=(16, 5, 7), compression='gzip')
    file['labels'] = numpy.arange(100) % 10
)");
    ForeignOptions options = options_for(folder, "a.h5");
    EXPECT_EQ(import_error(options), "imported");
    return options;
  }
  TemporaryFolder folder;
};

TEST_F(Foreign, FilesAreUsedWhereTheyLie) {
  write(good_files);
  for (const std::string& file : entries_of(folder.path())) {
    SCOPED_TRACE(file);
    const ForeignOptions options = options_for(folder, file);
    const std::string before = read_bytes(folder / file);
    ASSERT_EQ(import_error(options), "imported");
    expect_samples(options.out, file == "many.h5" ? 2000 : 100);
    EXPECT_EQ(entries_of(options.out), (std::vector<std::string>{"index-00000.h5", "manifest.json"}));
    EXPECT_EQ(read_bytes(folder / file), before);
  }
  const auto info = [&](const std::string& file) {
    return Dataset::open(options_for(folder, file).out)->info();
  };
  EXPECT_EQ(info("contiguous.h5").sample_shape, (std::vector<std::int64_t>{1, 5, 7}));
  EXPECT_EQ(info("contiguous.h5").layout, "chw");
  EXPECT_EQ(info("contiguous.h5").storage, "raw");
  EXPECT_EQ(info("flat.h5").sample_shape, std::vector<std::int64_t>{12});
  EXPECT_EQ(info("chunked.h5").layout, "hwc");
  EXPECT_EQ(info("chunked.h5").mean.size(), 3U);
  EXPECT_EQ(info("gzip.h5").storage, "deflate");
  EXPECT_EQ(info("gzip.h5").chunk_samples, 16);
  EXPECT_EQ(info("gzip.h5").classes, 10);
  EXPECT_EQ(info("gzip.h5").name, "set-gzip.h5");
  EXPECT_EQ(info("gzip.h5").chunk_bytes, BufferPool::capacity_for(16 * (105 + 4)));
  EXPECT_EQ(info("shuffled.h5").layout, "chw");
  EXPECT_EQ(info("large_chunk.h5").chunks, 1);
  EXPECT_EQ(info("many.h5").chunks, 2000);
}

TEST_F(Foreign, SeveralFilesWithChunksOfTheirOwnAreOneDataset) {
  write(R"(
import h5py
values = expected(300, (6, 6))
for name, first, last, how in [('a', 0, 100, {}), ('b', 100, 190, {'chunks': (16, 6, 6), 'compression': 'gzip'}),
                               ('c', 190, 300, {'chunks': (50, 6, 6)})]:
    with h5py.File(f'{FOLDER}/{name}.h5', 'w') as file:
        file.create_dataset('images', data=values[first:last], **how)
        file['labels'] = numpy.arange(first, last) % 10
)");
  ForeignOptions options;
  options.files = {folder / "a.h5", folder / "b.h5", folder / "c.h5"};
  options.values = "images";
  options.out = folder / "set";
  options.chunk_samples = 30;
  options.name = "three";
  options.class_names = {"t-shirt", "b", "c", "d", "e", "f", "g", "h", "i", "ankle boot"};
  ASSERT_EQ(import_error(options), "imported");
  expect_samples(options.out, 300);
  const Result<Dataset> dataset = Dataset::open(options.out);
  EXPECT_EQ(dataset->info().chunks, 4 + 6 + 3);
  EXPECT_EQ(dataset->info().chunk_samples, 50);
  EXPECT_EQ(dataset->info().class_names[9], "ankle boot");
  EXPECT_EQ(dataset->info().name, "three");
  EXPECT_EQ(dataset->describe(4), folder / "b.h5: chunk 0");
}

TEST_F(Foreign, FilesInTheDatasetsFolderMoveWithIt) {
  write(R"(
import h5py, os
os.mkdir(f'{FOLDER}/set')
with h5py.File(f'{FOLDER}/set/train.h5', 'w') as file:
    file['images'] = expected(70, (5, 7))
    file['labels'] = numpy.arange(70) % 10
)");
  ForeignOptions options = options_for(folder, "set/train.h5");
  options.out = folder / "set/";
  ASSERT_EQ(import_error(options), "imported");
  EXPECT_EQ(manifest_of(folder / "set").shards[0].values->file, "train.h5");
  fs::rename(folder / "set", folder / "moved");
  expect_samples(folder / "moved", 70);
  options.files = {folder / "moved/train.h5"};
  options.out = folder / "moved";
  expect_part(import_error(options), "moved/index-00000.h5 is already there: remove it, or import elsewhere");
  expect_samples(folder / "moved", 70);  // untouched
  // Given up in the middle, it leaves what was there.
  fs::remove(folder / "moved/index-00000.h5");
  fs::remove(folder / "moved/manifest.json");
  options.cancelled = [asked = 0]() mutable { return asked++ == 1; };
  options.chunk_samples = 40;
  EXPECT_EQ(import_foreign(options).error().code, ErrorCode::aborted);
  EXPECT_EQ(entries_of(folder / "moved"), std::vector<std::string>{"train.h5"});
}

constexpr const char* bad_files = R"(
import h5py, os
os.chdir(FOLDER)
values = expected(100, (5, 7))
def make(name, values=values, labels=numpy.arange(100) % 10, libver=None, **how):
    with h5py.File(name + '.h5', 'w', libver=libver) as file:
        if values is not None:
            file.create_dataset('images', data=values, **how)
        if labels is not None:
            file['labels'] = labels
make('floats', values.astype('f4'))
make('signed', values.astype('i1'))
make('words', values.astype('u2'))
make('truths', values > 3)
make('rank_1', values[:, 0, 0])
make('rank_5', values.reshape(100, 5, 7, 1, 1))
make('parts', chunks=(16, 5, 4))
make('lzf', chunks=(16, 5, 7), compression='lzf')
make('sums', chunks=(16, 5, 7), fletcher32=True)
make('no_labels', labels=None)
make('no_images', values=None)
make('few_labels', labels=numpy.arange(99))
make('float_labels', labels=numpy.arange(100) / 2)
make('negative', labels=-numpy.arange(100))
make('huge', labels=numpy.full(100, 2**63, 'u8'))
make('one_hot', labels=numpy.eye(10, dtype='i4')[numpy.arange(100) % 10])
make('two_ways', expected(100, (3, 5, 3)))
make('no_way', expected(100, (5, 6, 7)))
make('empty', values[:0], labels=numpy.arange(0))
make('external', external=[('other.raw', 0, 3500)])
def raw(name, shape, **how):
    with h5py.File(name + '.h5', 'w') as file:
        file.create_dataset('images', shape, 'u1', **how)
        file['labels'] = numpy.zeros(shape[0], 'i4')
raw('never', (100, 5, 7))
raw('big_chunks', (2**21, 1024), chunks=(2**21, 1024))
with h5py.File('holes.h5', 'w') as file:
    file.create_dataset('images', (100, 5, 7), 'u1', chunks=(16, 5, 7))[:40] = values[:40]
    file['labels'] = numpy.arange(100)
with h5py.File('compact.h5', 'w') as file:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((100, 5, 7))
    h5py.h5d.create(file.id, b'images', h5py.h5t.STD_U8LE, space, how).write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    file['labels'] = numpy.arange(100)
with h5py.File('virtual.h5', 'w', libver='latest') as file:
    layout = h5py.VirtualLayout((100, 5, 7), 'u1')
    layout[...] = h5py.VirtualSource('good.h5', 'images', (100, 5, 7))
    file.create_virtual_dataset('images', layout)
    file['labels'] = numpy.arange(100)
make('good')
with h5py.File('link.h5', 'w') as file:
    file['images'] = h5py.ExternalLink('good.h5', '/images')
    file['labels'] = numpy.arange(100)
with h5py.File('damaged.h5', 'w') as file:
    images = file.create_dataset('images', (100, 5, 7), 'u1', chunks=(16, 5, 7), compression='gzip')
    images[...] = values
    images.id.write_direct_chunk((16, 0, 0), b'not gzip')
    file['labels'] = numpy.arange(100)
with h5py.File('same_length.h5', 'w') as file:
    images = file.create_dataset('images', (100, 5, 7), 'u1', chunks=(16, 5, 7), compression='gzip')
    images[...] = values
    images.id.write_direct_chunk((16, 0, 0), bytes(16 * 35))
    file['labels'] = numpy.arange(100)
with h5py.File('short.h5', 'w') as file:
    images = file.create_dataset('images', (100, 5, 7), 'u1', chunks=(16, 5, 7), compression='gzip')
    images[...] = values
    images.id.write_direct_chunk((16, 0, 0), bytes(16 * 35 - 1), filter_mask=1)
    file['labels'] = numpy.arange(100)
open('text.h5', 'w').write('labels,images\n' * 100)
open('nothing.h5', 'w').close()
os.mkdir('folder.h5')
file = h5py.File('open.h5', 'w', libver='latest')
file['images'] = values
file['labels'] = numpy.arange(100)
file.flush()
os._exit(0)  # closes nothing
)";

struct Refusal {
  const char* file;
  const char* message;
};

TEST_F(Foreign, EachTrapIsRefusedInOneSentenceAndLeavesNothing) {
  write(bad_files);
  const std::vector<std::string> before = entries_of(folder.path());
  const std::vector<Refusal> refusals = {
      {"floats", "/images has values of type f32, and only u8 can be used as it is"},
      {"signed", "values of type i8"},
      {"words", "values of type u16"},
      {"truths", "values of type enumeration"},
      {"rank_1", "/images has 1 dimensions, and not 2 to 4"},
      {"rank_5", "/images has 5 dimensions"},
      {"parts", "/images has chunks of 16x5x4, which hold parts of samples"},
      {"lzf", "is stored with the filter lzf (32000), and only gzip or none can be used as it is"},
      {"sums", "is stored with the filter fletcher32 (3)"},
      {"no_labels", "no_labels.h5 has no dataset /labels: name the one that holds the labels"},
      {"no_images", "no_images.h5 has no dataset /images: name the one that holds the values"},
      {"few_labels", "/labels has 99 labels, and /images has 100 samples; do they belong together?"},
      {"float_labels", "/labels has labels of type f64, and not integers"},
      {"negative", "/labels: label 1 is -1, and labels are 0 to 2147483646"},
      {"huge", "/labels: label 0 is 9223372036854775807, and labels are"},
      {"one_hot", "/labels is 100x10, and not one label for each sample"},
      {"two_ways", "samples of 3x5x3 can be read in two ways"},
      {"no_way", "samples of 5x6x7 can be read in two ways"},
      {"empty", "/images is 0x5x7, which is empty or too large"},
      {"external", "lies in other files than this one (external storage)"},
      {"never", "/images was never written to"},
      {"big_chunks", "has chunks of 2097152x1024, larger than 1 GiB: write it again with smaller ones"},
      {"holes", "/images has a chunk 3 that was never written"},
      {"compact", "is so small that HDF5 keeps it in a header (compact storage)"},
      {"virtual", "is put together from other datasets (virtual storage)"},
      {"link", "/images has a chunk 0 that does not lie in this file; is it a link into another one?"},
      {"damaged", "damaged.h5: chunk 1 at byte "},
      {"same_length", "/images has a chunk 1 that is as long compressed as not"},
      {"short", "/images has a chunk 1 of 559 bytes where 560 are expected"},
      {"text", "text.h5 is not an HDF5 file"},
      {"nothing", "nothing.h5 is not an HDF5 file"},
      {"folder", "folder.h5 is not a regular file"},
      {"open",
       "open.h5 is being written, or its writer did not close it: close it, or repair it with h5clear "
       "--status"},
      {"missing", "cannot find "},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.file);
    const std::string file = concat(refusal.file, ".h5");
    expect_part(import_error(options_for(folder, file)), refusal.message);
  }
  EXPECT_EQ(entries_of(folder.path()), before);
}

TEST_F(Foreign, WrongOptionsSayWhatIsRight) {
  write(R"(
import h5py
for name, shape in [('a', (5, 7)), ('b', (7, 5)), ('hwc', (3, 5, 3))]:
    with h5py.File(f'{FOLDER}/{name}.h5', 'w') as file:
        file['images'] = expected(100, shape)
        file['labels'] = numpy.arange(100) % 10
)");
  const auto message = [&](const std::function<void(ForeignOptions&)>& change) {
    ForeignOptions options = options_for(folder, "a.h5");
    options.out = folder / "set";
    change(options);
    return import_error(options);
  };
  expect_part(message([](auto& o) { o.files.clear(); }), "no HDF5 file to import was named");
  expect_part(message([](auto& o) { o.out = ""; }), "no folder to import into");
  expect_part(message([](auto& o) { o.layout = "nchw"; }), "the layout \"nchw\" is neither chw nor hwc");
  expect_part(message([](auto& o) { o.classes = 5; }), "label 5 is 5, and labels are 0 to 4");
  expect_part(message([](auto& o) { o.classes = -1; }), "-1 classes: use 1 to");
  expect_part(message([](auto& o) { o.class_names = {"a"}; }), "label 1 is 1, and labels are 0 to 0");
  expect_part(message([](auto& o) { o.classes = 12, o.class_names = {"a"}; }),
              "1 names for 12 classes: give each one");
  expect_part(message([](auto& o) { o.chunk_samples = -3; }), "chunks of -3 samples: use 1 to ");
  expect_part(message([](auto& o) { o.name = "\xff"; }), "cannot be a name");
  expect_part(message([&](auto& o) { o.files.push_back(folder / "b.h5"); }), "samples of another shape than");
  expect_part(message([&](auto& o) { o.files.push_back(folder / "./a.h5"); }), "a.h5 is named twice");
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"a.h5", "b.h5", "hwc.h5"}));
  EXPECT_EQ(message([&](auto& o) { o.files = {folder / "hwc.h5"}, o.layout = "hwc"; }), "imported");
  EXPECT_EQ(Dataset::open(folder / "set")->info().layout, "hwc");
}

TEST_F(Foreign, AFileThatHasChangedSinceIsNoticed) {
  const ForeignOptions options = import_compressed_file();
  const std::string good = read_bytes(folder / "a.h5");
  write_bytes(folder / "a.h5", good + "x");
  expect_part(open_error(options.out), "a.h5: it has ");
  expect_part(fault_of(options.out), "it was written to since");
  write_bytes(folder / "a.h5", good);
  const IndexRow row = rows_of(options.out)[3];
  flip(folder / "a.h5", row.offset + 3, 2);
  expect_part(read_error(options.out),
              concat(folder / "a.h5: chunk 3 at byte ", row.offset, ": its checksum is 0x"));
  flip(folder / "a.h5", row.offset + 3, 2);
  EXPECT_EQ(fault_of(options.out), "");
  // Our own part: labels are in the chunks' checksums, all else in the metadata's.
  const std::string index = options.out + "/index-00000.h5";
  for (std::size_t at = 0; at < fs::file_size(index); at += 3) {
    flip(index, at, static_cast<int>(at % 8));
    ASSERT_NE(read_error(options.out), "") << at;
    flip(index, at, static_cast<int>(at % 8));
  }
  fs::remove(folder / "a.h5");
  expect_part(open_error(options.out), "a.h5 is missing");
}

TEST_F(Foreign, LyingManifestsAndIndexesAreErrors) {
  const ForeignOptions options = import_compressed_file();
  const Manifest good = manifest_of(options.out);
  const auto message = [&](const std::function<void(Manifest&)>& change) {
    Manifest manifest = good;
    change(manifest);
    write_bytes(options.out + "/manifest.json", render_manifest(manifest));
    const std::string read = read_error(options.out);
    return read.empty() ? fault_of(options.out) : read;
  };
  expect_part(message([](Manifest& m) { m.shards[0].values->file = "../a.h5"; }),
              "`file` is neither an absolute path nor one within the dataset's folder");
  expect_part(message([](Manifest& m) { m.shards[0].values->file = "/dev/zero"; }),
              "/dev/zero: it is not a regular file");
  expect_part(message([](Manifest& m) { m.shards[0].values->padded = false; }), "deflate chunks decode to");
  expect_part(message([](Manifest& m) { m.shards[0].labels_offset = m.shards[0].bytes - 399; }),
              "its labels would reach beyond the file's end");
  expect_part(message([](Manifest& m) { m.shards[0].labels_offset = m.shards[0].index_offset - 396; }),
              "its labels and its index overlap");
  expect_part(message([](Manifest& m) { m.shards[0].labels_offset -= 4; }), "the checksum of its index and");
  expect_part(message([](Manifest& m) { m.storage = Storage::raw; }), "raw chunks decode to");
  expect_part(message([](Manifest& m) { m.storage = Storage::jpeg, m.largest_record_bytes = 100000; }),
              "only images as they are can lie in another file");
  expect_part(message([](Manifest& m) { m.shards[0].values->dataset = "/other"; }), "has no dataset /other");
  expect_part(message([](Manifest& m) {
                m.sample_shape = {1, 7, 5};
              }),
              "/images has not the shape and chunks of the manifest");
  EXPECT_EQ(message([](Manifest&) {}), "");
  for (const std::uint64_t offset :
       {~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{fs::file_size(folder / "a.h5")}}) {
    IndexRow row = rows_of(options.out)[2];
    row.offset = offset;
    write_row(options.out, 2, row);
    expect_part(read_error(options.out), "chunk 2: the index puts it at byte ");
  }
}

TEST_F(Foreign, MoreFilesThanDescriptors) {
  write(R"(
import h5py
values = expected(150, (5, 7))
for i in range(150):
    with h5py.File(f'{FOLDER}/{i:03}.h5', 'w') as file:
        file['images'] = values[i:i + 1]
        file['labels'] = [i % 10]
)");
  ForeignOptions options;
  options.files = {};
  for (const std::string& file : entries_of(folder.path())) options.files.push_back(folder / file);
  options.values = "/images";
  options.out = folder / "set";
  const std::size_t before = entries_of("/proc/self/fd").size();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few = {before + 140, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const std::string imported = import_error(options);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  ASSERT_EQ(imported, "imported");
  const Result<Dataset> dataset = Dataset::open(options.out);
  for (std::int64_t chunk = 0; chunk < 150; ++chunk)
    ASSERT_EQ(sample_of(dataset->read_chunk(chunk)->sample(0).data()), chunk);
  EXPECT_LE(entries_of("/proc/self/fd").size(), before + 128);
}

}  // namespace
}  // namespace paceline
