#include "lookahead.hpp"

#include <algorithm>

#include "paceline/base/assert.hpp"

namespace paceline {

Lookahead::Lookahead(std::int64_t chunk_bytes, std::int64_t budget_bytes, std::int64_t samples_ahead)
    : chunk_bytes_(chunk_bytes), budget_bytes_(budget_bytes), samples_ahead_(samples_ahead) {
}

bool Lookahead::wants_request() {
  if (planned_samples_ >= samples_ahead_) filling_ = false;
  if (planned_samples_ <= samples_ahead_ / 4 * 3) filling_ = true;
  return requests_.empty() || (filling_ && scheduled_ == requests_.size());
}

void Lookahead::add(PlannedRequest request) {
  Entry entry;
  static_cast<PlannedRequest&>(entry) = std::move(request);
  entry.number = next_number();
  planned_samples_ += entry.request.count;
  requests_.push_back(std::move(entry));
}

bool Lookahead::schedule() {
  const std::size_t reads_before = queue_.size();
  for (; scheduled_ < requests_.size(); ++scheduled_) {
    Entry& entry = requests_[scheduled_];
    if (entry.error) continue;
    while (entry.scheduled < entry.chunks.size())
      if (!schedule_chunk(entry)) return queue_.size() > reads_before;
  }
  return queue_.size() > reads_before;
}

bool Lookahead::schedule_chunk(Entry& entry) {
  const std::int32_t chunk = entry.chunks[entry.scheduled];
  auto found = held_.find(chunk);
  if (found == held_.end()) {
    if (!make_room(&entry == &requests_.front())) return false;
    found = held_.emplace(chunk, Held{}).first;
    found->second.bytes = chunk_bytes_;
    account(chunk_bytes_);
    queue_.push_back(chunk);
  } else if (found->second.needed == 0 && found->second.content != nullptr) {
    unneeded_.erase(found->second.unneeded);
  }
  Held& held = found->second;
  ++held.needed;
  ++entry.scheduled;
  if (held.content == nullptr) {
    held.waiting.push_back(entry.number);
    ++entry.missing;
  }
  return true;
}

/// Room for one more chunk; `at_any_rate`: even beyond the budget.
bool Lookahead::make_room(bool at_any_rate) {
  while (held_bytes_ + chunk_bytes_ > budget_bytes_ && !unneeded_.empty()) {
    const auto oldest = held_.find(unneeded_.front());
    account(-oldest->second.bytes);
    held_.erase(oldest);
    unneeded_.pop_front();
  }
  return at_any_rate || held_bytes_ + chunk_bytes_ <= budget_bytes_;
}

void Lookahead::account(std::int64_t bytes) {
  held_bytes_ += bytes;
  most_held_ = std::max(most_held_, held_bytes_);
}

std::optional<std::int32_t> Lookahead::take_read() {
  if (queue_.empty()) return std::nullopt;
  const std::int32_t chunk = queue_.front();
  queue_.pop_front();
  held_.at(chunk).reading = true;
  return chunk;
}

void Lookahead::arrived(std::int32_t chunk, Shared content) {
  Held& held = held_.at(chunk);
  held.reading = false;
  account(content->bytes() - held.bytes);
  held.bytes = content->bytes();
  held.content = std::move(content);
  for (const std::int64_t number : held.waiting)
    if (Entry* entry = find(number)) --entry->missing;
  held.waiting.clear();
  if (held.needed == 0) held.unneeded = unneeded_.insert(unneeded_.end(), chunk);
}

void Lookahead::failed(std::int32_t chunk, const Error& error) {
  const auto found = held_.find(chunk);
  PACELINE_ASSERT(found != held_.end(), "a chunk that is being read is in the book");
  for (const std::int64_t number : found->second.waiting) {
    Entry* entry = find(number);
    if (entry == nullptr) continue;
    entry->error = error;
    std::erase(entry->chunks, chunk);  // nothing to release for it
    --entry->scheduled;
    --entry->missing;
  }
  account(-found->second.bytes);
  held_.erase(found);
}

Lookahead::Entry* Lookahead::find_makeable(int among) {
  const auto most = std::min(requests_.size(), static_cast<std::size_t>(among));
  for (std::size_t i = 0; i < most; ++i)
    if (requests_[i].ready() && !requests_[i].error && requests_[i].state == State::planned)
      return &requests_[i];
  return nullptr;
}

Lookahead::Entry* Lookahead::find(std::int64_t number) {
  const std::int64_t at = number - first_number_;
  if (at < 0 || at >= static_cast<std::int64_t>(requests_.size())) return nullptr;
  return &requests_[static_cast<std::size_t>(at)];
}

std::vector<Lookahead::Shared> Lookahead::chunks_of(const Entry& entry) const {
  std::vector<Shared> chunks;
  chunks.reserve(entry.chunks.size());
  for (const std::int32_t chunk : entry.chunks) chunks.push_back(held_.at(chunk).content);
  return chunks;
}

/// Its chunks are needed once less.
void Lookahead::release(const Entry& entry) {
  for (std::size_t i = 0; i < entry.scheduled; ++i) {
    const auto found = held_.find(entry.chunks[i]);
    Held& held = found->second;
    std::erase(held.waiting, entry.number);
    if (--held.needed > 0) continue;
    if (held.content != nullptr) {
      held.unneeded = unneeded_.insert(unneeded_.end(), found->first);
    } else if (!held.reading) {
      std::erase(queue_, found->first);
      account(-held.bytes);
      held_.erase(found);
    }
  }
  planned_samples_ -= entry.request.count;
}

void Lookahead::deliver_front() {
  release(requests_.front());
  requests_.pop_front();
  ++first_number_;
  if (scheduled_ > 0) --scheduled_;
}

void Lookahead::drop_from(std::int64_t from) {
  PACELINE_ASSERT(from >= first_number_, "what was delivered cannot be dropped");
  while (next_number() > from) {
    release(requests_.back());
    requests_.pop_back();
  }
  scheduled_ = std::min(scheduled_, requests_.size());
}

bool Lookahead::making_from(std::int64_t from) const {
  return std::any_of(requests_.begin(), requests_.end(), [&](const Entry& entry) {
    return entry.number >= from && entry.state == State::making;
  });
}

}  // namespace paceline
