#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "listing.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// A text file, or the part of one between two fractions of its length.
struct TextDocument {
  std::string path;
  std::int64_t bytes = 0;  ///< of the file as it lies there, compressed or not
  double from = 0;
  double to = 1;
};

/// What is read and made into tokens at once: a compressed document, or a few MiB of another. Borders lie
/// after a line break where there is one near.
struct TextPiece {
  const TextDocument* document = nullptr;  ///< does not own
  std::int64_t begin = 0;                  ///< in the file; nothing about compressed ones
  std::int64_t end = 0;
  bool is_last = false;           ///< of its document
  std::int64_t stored_bytes = 0;  ///< of the file, about: for progress
};

/// The documents of a training and a test set, each in its order.
struct TextSplit {
  std::vector<TextDocument> train;
  std::vector<TextDocument> test;
};

/// Finds all files in the sources and divides them: whole files by a hash of their name below their source,
/// or a single file at its end.
[[nodiscard]] Result<TextSplit> find_texts(const std::vector<std::string>& sources, double test_fraction);

/// Empty files have no pieces.
[[nodiscard]] std::vector<TextPiece> cut_texts(const std::vector<TextDocument>& documents);
/// The bytes of a piece, decompressed. Errors name the file; corrupt for damaged gzip.
[[nodiscard]] Result<std::string> read_piece(const TextPiece& piece);

}  // namespace paceline
