#include "codec.hpp"

#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Decoding takes the same time at all levels, and higher ones save little of images and tokens.
constexpr int zstd_level = 3;

// The registered HDF5 filter 32004 writes: u64 decoded bytes, u32 bytes per block, then for each block u32
// stored bytes and the block; all big-endian. A block as long as its decoded form is stored as it is.
constexpr std::size_t lz4_header_bytes = 12;
constexpr std::size_t lz4_block_header_bytes = 4;

Error bad(const auto&... what) {
  return {ErrorCode::corrupt, concat(what...)};
}

std::uint64_t read_big_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
  return value;
}

void append_big_endian(std::vector<std::byte>& into, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    into.push_back(static_cast<std::byte>(value >> shift));
}

template <auto Free>
struct FreeWith {
  void operator()(auto* context) const noexcept { Free(context); }
};

bool encode_zstd(std::span<const std::byte> values, std::vector<std::byte>& into) {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeWith<ZSTD_freeCCtx>> context(ZSTD_createCCtx());
  PACELINE_ASSERT(context != nullptr, "no memory for zstd");
  const std::size_t before = into.size();
  // One byte less than the values have: a frame that is not shorter is not wanted.
  into.resize(before + values.size() - 1);
  const std::size_t bytes = ZSTD_compressCCtx(context.get(), into.data() + before, values.size() - 1,
                                              values.data(), values.size(), zstd_level);
  into.resize(before + (ZSTD_isError(bytes) != 0 ? 0 : bytes));
  return ZSTD_isError(bytes) == 0;
}

Status decode_zstd(std::span<const std::byte> stored, std::span<std::byte> values) {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeWith<ZSTD_freeDCtx>> context(ZSTD_createDCtx());
  PACELINE_ASSERT(context != nullptr, "no memory for zstd");
  const unsigned long long content = ZSTD_getFrameContentSize(stored.data(), stored.size());
  if (content == ZSTD_CONTENTSIZE_ERROR || content == ZSTD_CONTENTSIZE_UNKNOWN)
    return bad("its values are no zstd frame with a content size");
  if (content != values.size())
    return bad("its zstd frame says that it holds ", content, " bytes, and not ", values.size());
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    return bad("its zstd frame does not end where its values end");
  const std::size_t bytes =
      ZSTD_decompressDCtx(context.get(), values.data(), values.size(), stored.data(), stored.size());
  if (ZSTD_isError(bytes) != 0) return bad("its zstd frame cannot be decoded: ", ZSTD_getErrorName(bytes));
  if (bytes != values.size()) return bad("its zstd frame holds ", bytes, " bytes, and not ", values.size());
  return {};
}

bool encode_lz4(std::span<const std::byte> values, std::vector<std::byte>& into) {
  constexpr std::size_t headers = lz4_header_bytes + lz4_block_header_bytes;
  if (values.size() <= headers + 1 || values.size() > LZ4_MAX_INPUT_SIZE) return false;
  const std::size_t before = into.size();
  const std::size_t most = values.size() - 1 - headers;
  append_big_endian(into, values.size(), 8);
  append_big_endian(into, values.size(), 4);  // one block for all
  append_big_endian(into, 0, 4);              // its length, when it is known
  into.resize(before + headers + most);
  const int bytes = LZ4_compress_default(reinterpret_cast<const char*>(values.data()),
                                         reinterpret_cast<char*>(into.data() + before + headers),
                                         static_cast<int>(values.size()), static_cast<int>(most));
  into.resize(bytes > 0 ? before + headers + static_cast<std::size_t>(bytes) : before);
  for (std::size_t i = 0; bytes > 0 && i < lz4_block_header_bytes; ++i)
    into[before + lz4_header_bytes + i] = static_cast<std::byte>(bytes >> (24 - 8 * i));
  return bytes > 0;
}

Status decode_lz4_block(std::span<const std::byte> stored, std::span<std::byte> values) {
  if (stored.size() == values.size()) {
    std::copy(stored.begin(), stored.end(), values.begin());
    return {};
  }
  constexpr auto most = static_cast<std::size_t>(std::numeric_limits<int>::max());
  if (stored.size() > most || values.size() > most)
    return bad("its lz4 block is larger than lz4 can make it");
  const int bytes = LZ4_decompress_safe(reinterpret_cast<const char*>(stored.data()),
                                        reinterpret_cast<char*>(values.data()),
                                        static_cast<int>(stored.size()), static_cast<int>(values.size()));
  if (bytes >= 0 && static_cast<std::size_t>(bytes) == values.size()) return {};
  return bad("one of its lz4 blocks cannot be decoded into ", values.size(), " bytes");
}

Status decode_lz4(std::span<const std::byte> stored, std::span<std::byte> values) {
  if (stored.size() < lz4_header_bytes) return bad("its values are too short for lz4");
  const std::uint64_t content = read_big_endian(stored.first(8));
  const std::uint64_t block_bytes = read_big_endian(stored.subspan(8, 4));
  if (content != values.size() || block_bytes == 0)
    return bad("its lz4 header says ", content, " bytes in blocks of ", block_bytes, ", and not ",
               values.size(), " bytes");
  stored = stored.subspan(lz4_header_bytes);
  while (!values.empty()) {
    if (stored.size() < lz4_block_header_bytes) return bad("its lz4 blocks end too early");
    const std::uint64_t bytes = read_big_endian(stored.first(lz4_block_header_bytes));
    stored = stored.subspan(lz4_block_header_bytes);
    if (bytes > stored.size()) return bad("one of its lz4 blocks says that it has ", bytes, " bytes");
    const auto block = values.first(std::min<std::uint64_t>(block_bytes, values.size()));
    PACELINE_TRY(decode_lz4_block(stored.first(bytes), block));
    stored = stored.subspan(bytes);
    values = values.subspan(block.size());
  }
  if (!stored.empty()) return bad(stored.size(), " bytes follow its lz4 blocks");
  return {};
}

/// zlib's working memory, some 40 KiB.
class Inflater {
 public:
  Inflater() { PACELINE_ASSERT(::inflateInit(&stream_) == Z_OK, "no memory for zlib"); }
  ~Inflater() { ::inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  Status run(std::span<const std::byte> stored, std::span<std::byte> values) {
    constexpr std::size_t most = std::numeric_limits<uInt>::max();
    if (stored.size() > most || values.size() > most)
      return bad("its values are larger than zlib takes at once");
    ::inflateReset(&stream_);
    stream_.next_in =
        reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));  // zlib's old interface
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = reinterpret_cast<Bytef*>(values.data());
    stream_.avail_out = static_cast<uInt>(values.size());
    const int code = ::inflate(&stream_, Z_FINISH);
    if (code == Z_STREAM_END && stream_.avail_in == 0 && stream_.avail_out == 0) return {};
    if (code != Z_STREAM_END && code != Z_BUF_ERROR)
      return bad("its deflate stream cannot be decoded: ",
                 stream_.msg == nullptr ? "no reason given" : stream_.msg);
    return bad("its deflate stream does not hold exactly ", values.size(), " bytes");
  }

 private:
  z_stream stream_{};
};

}  // namespace

std::string_view to_string(Storage storage) noexcept {
  switch (storage) {
    case Storage::raw: return "raw";
    case Storage::zstd: return "zstd";
    case Storage::lz4: return "lz4";
    case Storage::jpeg: return "jpeg";
    case Storage::deflate: return "deflate";
  }
  return "unknown";
}

unsigned filter_of(Storage storage) noexcept {
  switch (storage) {
    case Storage::raw: return 0;
    case Storage::zstd: return 32015;
    case Storage::lz4: return 32004;
    case Storage::jpeg: return 511;  // of the range for private use
    case Storage::deflate: return 1;
  }
  return 0;
}

bool encode_values(Storage storage, std::span<const std::byte> values, std::vector<std::byte>& into) {
  PACELINE_ASSERT(storage != Storage::jpeg && storage != Storage::deflate,
                  "not a storage that this can write");
  if (storage == Storage::raw || values.size() < 2) return false;
  return storage == Storage::zstd ? encode_zstd(values, into) : encode_lz4(values, into);
}

Status decode_values(Storage storage, std::span<const std::byte> stored, std::span<std::byte> values) {
  switch (storage) {
    case Storage::zstd: return decode_zstd(stored, values);
    case Storage::lz4: return decode_lz4(stored, values);
    case Storage::deflate: {
      thread_local Inflater inflater;
      return inflater.run(stored, values);
    }
    case Storage::raw:
    case Storage::jpeg: break;
  }
  PACELINE_ASSERT(false, "raw and jpeg chunks are not decoded");
}

}  // namespace paceline
