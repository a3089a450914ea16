#include "cifar.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "paceline/base/text.hpp"

namespace paceline {

Result<CifarFile> CifarFile::open(const std::string& path, std::int64_t label_bytes) {
  CifarFile file;
  file.path_ = path;
  file.label_bytes_ = label_bytes;
  file.fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe would wait for a writer
  if (!file.fd_.valid()) return system_error(concat("cannot open ", shown(path)));
  struct stat status {};
  if (::fstat(file.fd_.get(), &status) != 0) return system_error(concat("cannot look at ", shown(path)));
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::invalid_argument, concat(shown(path), " is not a regular file")};
  const std::int64_t record_bytes = label_bytes + cifar_image_bytes;
  if (status.st_size == 0 || status.st_size % record_bytes != 0)
    return Error{ErrorCode::corrupt,
                 concat(shown(path), ": its ", status.st_size, " bytes are not whole records of ",
                        record_bytes, "; it is truncated or not this binary version: get it again")};
  file.records_ = status.st_size / record_bytes;
  return file;
}

Status CifarFile::read(std::int64_t first, std::int64_t count, std::int64_t classes,
                       std::vector<std::byte>& values, std::vector<std::int32_t>& labels) const {
  const std::int64_t record_bytes = label_bytes_ + cifar_image_bytes;
  std::vector<std::byte> records(static_cast<std::size_t>(count * record_bytes));
  for (std::size_t done = 0; done < records.size();) {
    const ssize_t got = ::pread(fd_.get(), records.data() + done, records.size() - done,
                                first * record_bytes + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", shown(path_)));
    if (got == 0) return Error{ErrorCode::corrupt, concat(shown(path_), ": it has become shorter")};
    done += static_cast<std::size_t>(got);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const std::byte* record = records.data() + i * record_bytes;
    const auto label = std::to_integer<std::int32_t>(record[label_bytes_ - 1]);
    if (label >= classes)
      return Error{ErrorCode::corrupt,
                   concat(shown(path_), ": label ", first + i, " is ", label,
                          ", and there are the classes 0 to ", classes - 1, "; get the file again")};
    labels.push_back(label);
    values.insert(values.end(), record + label_bytes_, record + record_bytes);
  }
  return {};
}

}  // namespace paceline
