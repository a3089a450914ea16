#include "image_files.hpp"

#include <algorithm>

#include "dataset_writer.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "picture.hpp"

namespace paceline {
namespace {

constexpr std::size_t image_file_limit = std::size_t{512} << 20;
constexpr std::size_t headers_read = 1000;
// A JPEG's own bytes are kept unless they are mostly something else: colour profiles, previews, notes.
constexpr std::size_t kept_notes_bytes = std::size_t{64} << 10;

/// A file's bytes; io if it can't be read.
Result<std::string> load(const std::string& path) {
  return read_file(path, image_file_limit);
}
std::span<const std::byte> bytes_in(const std::string& content) {
  return std::as_bytes(std::span(content));
}

Error differs(const ImageTarget& target, const std::string& path, std::int64_t rows, std::int64_t columns) {
  return {ErrorCode::invalid_argument,
          concat("the images are not all of one size: ", shown(target.model), " has ", target.rows, "x",
                 target.columns, " pixels and ", shown(path), " has ", rows, "x", columns,
                 ": say what they are to be with --size ROWSxCOLUMNS")};
}

Error coloured(const std::string& path) {
  return {ErrorCode::invalid_argument,
          concat(shown(path),
                 " is in colour, while all images that were looked at first are grey: say "
                 "--channels 3, or --channels 1 to take the colour away")};
}

/// Whether a file is a matter of this import rather than a bad file.
bool concerns_all(const Error& error) {
  return error.code == ErrorCode::invalid_argument || error.code == ErrorCode::internal;
}

/// Turns files into samples; one for each thread.
class ImageLoader {
 public:
  ImageLoader(const ImageTarget& target, bool grey_only) : target_(target), grey_only_(grey_only) {}

  Result<ImageSample> make(const ImageFile& file) {
    Result<std::string> content = load(file.path);
    if (!content.ok()) return content.error();
    content_ = std::move(*content);
    const Result<ImageHeader> header = read_picture_header(bytes_in(content_));
    if (!header.ok()) return header.error().with_context(shown(file.path));
    if (!target_.scaled && (header->rows != target_.rows || header->columns != target_.columns))
      return differs(target_, file.path, header->rows, header->columns);
    if (grey_only_ && header->channels != 1) return coloured(file.path);
    Result<Picture> picture = decode_picture(bytes_in(content_), target_.channels);
    if (!picture.ok()) return picture.error().with_context(shown(file.path));
    picture_ = fit_picture(*picture, target_.rows, target_.columns);
    ImageSample sample{picture_.values, {}, file.label};
    const bool is_jpeg = picture_format(bytes_in(content_)).value() == PictureFormat::jpeg;
    const bool fits = header->rows == target_.rows && header->columns == target_.columns &&
                      header->channels == target_.channels &&
                      content_.size() <= picture_.values.size() + kept_notes_bytes;
    if (is_jpeg && fits) sample.encoded = bytes_in(content_);
    return sample;
  }

 private:
  ImageTarget target_;
  bool grey_only_;
  std::string content_;
  Picture picture_;
};

class ImageFilesPart : public ImagePart {
 public:
  ImageFilesPart(ImportRun& run, ImageLoader loader, std::span<const ImageFile> files)
      : run_(run), loader_(std::move(loader)), left_(files) {}

  [[nodiscard]] Result<std::optional<ImageSample>> next() override {
    while (!left_.empty()) {
      const ImageFile& file = left_.front();
      left_ = left_.subspan(1);
      const Result<ImageSample> sample = loader_.make(file);
      if (sample.ok()) return std::optional(*sample);
      if (concerns_all(sample.error())) return sample.error();
      PACELINE_TRY(run_.skip(sample.error()));
      run_.advance(1);
      PACELINE_TRY(run_.check_cancelled());
    }
    return std::optional<ImageSample>();
  }

 private:
  ImportRun& run_;
  ImageLoader loader_;
  std::span<const ImageFile> left_;
};

class ImageFilesSource : public ImageSource {
 public:
  ImageFilesSource(ImportRun& run, const ImageTarget& target, const std::vector<ImageFile>& files)
      : run_(run), target_(target), files_(files) {}

  [[nodiscard]] std::int64_t items() const override { return static_cast<std::int64_t>(files_.size()); }
  [[nodiscard]] Result<std::unique_ptr<ImagePart>> take(std::int64_t first, std::int64_t count) override {
    const bool grey_only = target_.channels == 1 && run_.options().channels == 0;
    return std::unique_ptr<ImagePart>(std::make_unique<ImageFilesPart>(
        run_, ImageLoader(target_, grey_only),
        std::span(files_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count))));
  }

 private:
  ImportRun& run_;
  ImageTarget target_;
  const std::vector<ImageFile>& files_;
};

/// What the headers of the first files say together.
struct HeaderSurvey {
  bool any_colour = false;
  bool any_png = false;
  std::optional<ImageHeader> first;
  std::string first_path;
};

/// Bad files are met again, and counted, when they are imported.
Status survey(ImportRun& run, std::span<const ImageFile> files, bool one_size, HeaderSurvey& found) {
  Result<ImageHeader> header = Error{};
  for (const ImageFile& file : files) {
    PACELINE_TRY(run.check_cancelled());
    const Result<std::string> content = load(file.path);
    if (!content.ok()) continue;
    header = read_picture_header(bytes_in(*content));
    if (!header.ok()) continue;
    found.any_colour = found.any_colour || header->channels != 1;
    found.any_png = found.any_png || picture_format(bytes_in(*content)).value() == PictureFormat::png;
    if (!found.first) {
      found.first = *header;
      found.first_path = file.path;
    }
    if (one_size && (header->rows != found.first->rows || header->columns != found.first->columns)) {
      ImageTarget target{found.first->rows, found.first->columns, 0, false, Storage::raw, found.first_path};
      return differs(target, file.path, header->rows, header->columns);
    }
  }
  if (found.first) return {};
  return Error{
      ErrorCode::corrupt,
      concat("none of the first ", files.size(), files.size() == 1 ? " image" : " images",
             " can be used; the last one: ", header.error().with_context(shown(files.back().path)).message)};
}

}  // namespace

Result<ImageTarget> choose_target(ImportRun& run, const ImageFolder& folder) {
  const ImportOptions& options = run.options();
  HeaderSurvey found;
  const std::span<const ImageFile> files = folder.splits[0].files;
  PACELINE_TRY(survey(run, files.first(std::min(files.size(), headers_read)), !options.size, found));
  ImageTarget target;
  target.scaled = options.size.has_value();
  target.rows = target.scaled ? options.size->rows : found.first->rows;
  target.columns = target.scaled ? options.size->columns : found.first->columns;
  if (!target.scaled) target.model = found.first_path;
  target.channels = options.channels > 0 ? options.channels : found.any_colour ? 3 : 1;
  PACELINE_ASSIGN(target.storage, chosen_storage(options, found.any_png ? Storage::raw : Storage::jpeg));
  return target;
}

std::unique_ptr<ImageSource> image_files_source(ImportRun& run, const ImageTarget& target,
                                                const std::vector<ImageFile>& files) {
  return std::make_unique<ImageFilesSource>(run, target, files);
}

}  // namespace paceline
