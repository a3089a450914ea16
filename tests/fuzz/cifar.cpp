// The importer's reader of CIFAR's binary files.
#include "../../data/src/import/cifar.hpp"

#include "memory_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, unsigned long size) {
  using namespace paceline;
  if (size == 0) return 0;
  const std::int64_t label_bytes = 1 + data[0] % 2;
  const std::int64_t record = label_bytes + cifar_image_bytes;
  // Whole records, of what bytes there are: by chance they would hardly come about.
  std::vector<unsigned char> bytes(data + 1, data + size);
  if (size % 7 != 0) bytes.resize(static_cast<std::size_t>((1 + data[0] / 64) * record), data[0]);
  const MemoryFile memory(bytes.data(), bytes.size());
  const Result<CifarFile> file = CifarFile::open(memory.path(), label_bytes);
  if (!file.ok()) return 0;
  std::vector<std::byte> values;
  std::vector<std::int32_t> labels;
  (void)file->read(0, file->records(), 10, values, labels);
  return 0;
}
