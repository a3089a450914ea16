// The importer's reader of IDX files, compressed or not: header, data and end.
#include "../../data/src/import/idx.hpp"

#include "memory_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, unsigned long size) {
  using namespace paceline;
  const MemoryFile memory(data, size);
  Result<IdxFile> file = IdxFile::open(memory.path(), 1, 4);
  if (!file.ok()) return 0;
  std::vector<std::byte> values(64);
  for (int i = 0; i < 100; ++i)
    if (!file->read(values).ok()) return 0;
  (void)file->expect_end();
  return 0;
}
