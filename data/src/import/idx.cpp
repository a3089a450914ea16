#include "idx.hpp"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

Error bad_idx(const std::string& path, std::string_view what) {
  return {ErrorCode::corrupt, concat(shown(path), ": ", what, "; get the file again")};
}

std::uint32_t big_endian(const std::byte* bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

}  // namespace

void IdxFile::Close::operator()(gzFile_s* file) const noexcept {
  ::gzclose(file);
}

Result<std::size_t> IdxFile::read_some(std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const auto ask = static_cast<unsigned>(std::min<std::size_t>(into.size() - done, 1U << 30));
    errno = 0;
    const int got = ::gzread(file_.get(), into.data() + done, ask);
    int code = Z_OK;
    const char* text = ::gzerror(file_.get(), &code);
    if (code == Z_ERRNO) return system_error(concat("cannot read ", shown(path_)));
    if (code == Z_BUF_ERROR) return bad_idx(path_, "its gzip stream is truncated");
    if (got < 0) return bad_idx(path_, concat("its gzip stream is damaged (", text, ")"));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<IdxFile> IdxFile::open(const std::string& path, int least, int most) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return system_error(concat("cannot open ", shown(path)));
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::invalid_argument, concat(shown(path), " is not a regular file")};
  IdxFile idx(path);
  idx.file_.reset(::gzopen(path.c_str(), "rbe"));
  if (idx.file_ == nullptr) return system_error(concat("cannot open ", shown(path)));
  ::gzbuffer(idx.file_.get(), 1U << 18);

  std::array<std::byte, 4> magic{};
  PACELINE_ASSIGN(const std::size_t got, idx.read_some(magic));
  const std::uint32_t number = got < magic.size() ? 0 : big_endian(magic.data());
  const auto dimensions = static_cast<int>(number & 0xff);
  if (number >> 8 != 8 || dimensions < least || dimensions > most)
    return bad_idx(
        path,
        concat("it starts with 0x", to_hex(std::span(magic).first(got)), ", and an IDX file of bytes with ",
               least, least == most ? "" : concat(" to ", most), " dimensions with 0x0000080", least));
  std::vector<std::byte> sizes(static_cast<std::size_t>(dimensions) * 4);
  PACELINE_TRY(idx.read(sizes));
  for (int i = 0; i < dimensions; ++i)
    idx.sizes_.push_back(big_endian(sizes.data() + static_cast<std::ptrdiff_t>(i) * 4));
  return idx;
}

Status IdxFile::read(std::span<std::byte> into) {
  PACELINE_ASSIGN(const std::size_t got, read_some(into));
  if (got == into.size()) return {};
  return bad_idx(path_, "it is truncated: it ends before the number of bytes that its header promises");
}

Status IdxFile::expect_end() {
  std::array<std::byte, 1> more{};
  PACELINE_ASSIGN(const std::size_t got, read_some(more));
  if (got == 0) return {};
  return bad_idx(path_, "more bytes follow than its header promises");
}

}  // namespace paceline
