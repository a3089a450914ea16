#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>

#include "dataset_writer.hpp"
#include "kinds.hpp"
#include "paceline/base/text.hpp"
#include "shard_builder.hpp"
#include "text_encoder.hpp"
#include "text_pieces.hpp"

namespace paceline {
namespace {

constexpr double default_test_fraction = 0.05;
constexpr std::int64_t default_chunk_tokens = 262144;
constexpr auto turn_patience = std::chrono::milliseconds(100);

/// A stream of tokens, cut into shards of a fixed number. A shard is written when the token after it is
/// known.
class TokenStream {
 public:
  TokenStream(ImportRun& run, std::string folder, Manifest& manifest, std::int64_t expected_bytes)
      : run_(run), folder_(std::move(folder)), manifest_(manifest), token_bytes_(bytes_of(manifest.type)) {
    shard_tokens_ = shard_samples_for(run.options(), expected_bytes, token_bytes_, manifest.chunk_samples);
  }

  Status add(std::span<const std::byte> tokens) {
    while (!tokens.empty()) {
      if (builder_ && builder_->samples() == shard_tokens_) PACELINE_TRY(write(first_of(tokens)));
      if (!builder_) builder_ = std::make_unique<ShardBuilder>(manifest_);
      const std::int64_t room = (shard_tokens_ - builder_->samples()) * token_bytes_;
      const std::size_t now = std::min(tokens.size(), static_cast<std::size_t>(room));
      PACELINE_TRY(builder_->add_tokens(tokens.first(now)));
      tokens = tokens.subspan(now);
    }
    return {};
  }

  Status finish() {
    if (builder_) PACELINE_TRY(write(0));
    return {};
  }

 private:
  [[nodiscard]] std::uint32_t first_of(std::span<const std::byte> tokens) const {
    std::uint32_t token = 0;  // little-endian, as the format
    std::memcpy(&token, tokens.data(), static_cast<std::size_t>(token_bytes_));
    return token;
  }

  Status write(std::uint32_t following) {
    PACELINE_ASSIGN(ShardEntry entry,
                    builder_->write(run_.report(), folder_, shard_name(manifest_.shards.size()), following));
    builder_.reset();
    manifest_.samples += entry.samples;
    manifest_.shards.push_back(std::move(entry));
    return {};
  }

  ImportRun& run_;
  std::string folder_;
  Manifest& manifest_;
  std::int64_t token_bytes_;
  std::int64_t shard_tokens_ = 0;
  std::unique_ptr<ShardBuilder> builder_;
};

/// Threads read pieces and make them into tokens side by side; each then waits for its piece's turn to append
/// them. So there are never more pieces in memory than threads.
class PieceQueue {
 public:
  PieceQueue(ImportRun& run, const TextCoding& coding, std::vector<TextPiece> pieces, TokenStream& stream)
      : run_(run), coding_(coding), pieces_(std::move(pieces)), stream_(stream) {}

  Status work_off() {
    return run_.run_threads([this] { return work(); });
  }

 private:
  Status work() {
    PACELINE_ASSIGN(TextEncoder encoder, TextEncoder::make(run_, coding_));
    while (true) {
      PACELINE_TRY(run_.check_cancelled());
      std::size_t number = 0;
      {
        const std::lock_guard lock(mutex_);
        if (next_ == pieces_.size()) return {};
        number = next_++;
      }
      PACELINE_ASSIGN(const std::vector<std::byte> tokens, make(encoder, pieces_[number]));
      PACELINE_TRY(append(number, tokens));
    }
  }

  Result<std::vector<std::byte>> make(TextEncoder& encoder, const TextPiece& piece) {
    const Result<std::string> text = read_piece(piece);
    const bool is_whole = piece.begin == piece.end;  // a compressed document, which may turn out to be empty
    if (text.ok() && !(is_whole && text->empty())) return encoder.encode(*text, piece.is_last);
    if (text.ok()) return std::vector<std::byte>();
    PACELINE_TRY(run_.skip(text.error()));
    return std::vector<std::byte>();
  }

  Status append(std::size_t number, const std::vector<std::byte>& tokens) {
    std::unique_lock lock(mutex_);
    while (!turn_changed_.wait_for(lock, turn_patience, [&] { return turn_ == number; }))
      PACELINE_TRY(run_.check_cancelled());  // whose turn it is may have failed
    lock.unlock();
    PACELINE_TRY(stream_.add(tokens));
    run_.advance(pieces_[number].stored_bytes);
    lock.lock();
    ++turn_;
    lock.unlock();
    turn_changed_.notify_all();
    return {};
  }

  ImportRun& run_;
  const TextCoding& coding_;
  std::vector<TextPiece> pieces_;
  TokenStream& stream_;

  std::mutex mutex_;
  std::condition_variable turn_changed_;
  std::size_t next_ = 0;
  std::size_t turn_ = 0;
};

std::int64_t bytes_in(const std::vector<TextDocument>& documents) {
  double bytes = 0;
  for (const TextDocument& document : documents)
    bytes += static_cast<double>(document.bytes) * (document.to - document.from);
  return static_cast<std::int64_t>(bytes);
}

Result<Manifest> make_manifest(const ImportRun& run, const TextCoding& coding, const std::string& name) {
  Manifest manifest;
  manifest.name = dataset_name(run.options().sources[0], name);
  manifest.kind = SampleKind::tokens;
  manifest.type = coding.type;
  PACELINE_ASSIGN(manifest.storage, chosen_storage(run.options(), Storage::raw));
  if (manifest.storage == Storage::jpeg)
    return Error{ErrorCode::invalid_argument, "--storage jpeg is for images: use raw, lz4 or zstd for text"};
  const std::int64_t chunk = run.options().chunk_samples;
  manifest.chunk_samples = chunk > 0 ? chunk : default_chunk_tokens;
  manifest.vocabulary = coding.vocabulary;
  manifest.tokenizer = coding.model.empty() ? "bytes" : "../tokenizer.model";
  return manifest;
}

Status write_texts(ImportRun& run, const std::string& folder, const TextCoding& coding,
                   const std::string& name, const std::vector<TextDocument>& documents) {
  PACELINE_ASSIGN(Manifest manifest, make_manifest(run, coding, name));
  const std::string path = concat(folder, "/", name);
  PACELINE_TRY(make_dataset_folder(run, path));
  run.begin(name, bytes_in(documents), true);
  TokenStream stream(run, path, manifest, bytes_in(documents));
  PACELINE_TRY(PieceQueue(run, coding, cut_texts(documents), stream).work_off());
  PACELINE_TRY(stream.finish());
  if (manifest.samples < 2)
    return Error{ErrorCode::invalid_argument,
                 concat("there is no text for ", name, " in the ", documents.size(),
                        documents.size() == 1 ? " file" : " files", " that it is made of, from ",
                        shown(documents[0].path), " on: give more text",
                        name == "test" ? ", or --test-fraction 0" : "")};
  return finish_dataset(run, path, manifest);
}

}  // namespace

Status import_text(ImportRun& run, const std::string& folder) {
  const ImportOptions& options = run.options();
  if (options.sources.empty())
    return Error{ErrorCode::invalid_argument, "importing text needs files or folders as SOURCE"};
  PACELINE_ASSIGN(const TextSplit split,
                  find_texts(options.sources, options.test_fraction.value_or(default_test_fraction)));
  PACELINE_TRY(make_manifest(run, {}, "train"));  // wrong options are told before a tokenizer is trained
  run.set_files(static_cast<std::int64_t>(split.train.size() + split.test.size()));
  run.set_needed_bytes(bytes_in(split.train) + bytes_in(split.test));
  PACELINE_ASSIGN(const TextCoding coding, prepare_coding(run, folder, split.train));
  PACELINE_TRY(write_texts(run, folder, coding, "train", split.train));
  if (!split.test.empty()) PACELINE_TRY(write_texts(run, folder, coding, "test", split.test));
  run.tell_skipped();
  return {};
}

}  // namespace paceline
