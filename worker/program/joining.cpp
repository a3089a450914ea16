#include "joining.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {
namespace {

constexpr const char* given_up = "it is not wanted any more";

Result<Membership> connect(const StartMessage& start, const FormMessage& form, const ConnectCancel& cancel) {
  std::vector<Member> members;
  for (const MemberSpec& member : form.members) members.push_back({member.node, member.host, member.port});
  CommunicatorOptions options;
  options.generation = static_cast<std::uint64_t>(form.generation);
  options.secret = start.secret;
  options.cancel = cancel;
  if (form.rank == 0 && start.has_listener) {
    // A copy, because it may be wanted again.
    options.listener.reset(::fcntl(worker_listener_fd, F_DUPFD_CLOEXEC, 0));
    if (!options.listener.valid()) return system_error("cannot copy the listening socket");
  }
  PACELINE_ASSIGN(Communicator communicator,
                  Communicator::connect(static_cast<int>(form.rank), members, std::move(options)));
  return Membership{form, std::make_unique<Communicator>(std::move(communicator))};
}

/// Whether those who join compute like those who hold the state. Before anyone changes to the generation, so
/// that the one that doesn't is refused alone.
Status check_joiners(Communicator& communicator, const FormMessage& form,
                     const std::optional<ComputeFingerprint>& own) {
  if (!own || form.donors == 0 || form.donors == communicator.size()) return {};
  Status alike = check_ranks_compute_alike(communicator, *own);
  if (alike.ok() || alike.error().code != ErrorCode::mismatch) return alike;
  const Error& error = alike.error();
  if (error.rank < form.donors || error.rank == communicator.rank()) return alike;
  return Error{ErrorCode::peer_lost, error.message, error.rank};
}

/// A run of one part's bytes that one donor sends.
struct Piece {
  std::span<std::byte> bytes;
  std::size_t donor = 0;  // index
};

/// The donors' parts of all bytes, as equal as they go.
std::vector<Piece> deal(std::span<const StatePart> state, std::size_t donors) {
  const std::int64_t all = bytes_of(state);
  const auto slice_of = [&](std::size_t donor) {
    return checkpoint_slice(all, static_cast<std::int64_t>(donor), static_cast<std::int64_t>(donors));
  };
  std::vector<Piece> pieces;
  std::size_t at = 0;  // of the part, in all bytes
  for (const StatePart& part : state) {
    for (std::size_t donor = 0; donor < donors; ++donor) {
      const CheckpointSlice slice = slice_of(donor);
      const std::size_t begin = std::max(at, static_cast<std::size_t>(slice.offset));
      const std::size_t end =
          std::min(at + part.bytes.size(), static_cast<std::size_t>(slice.offset + slice.bytes));
      if (begin < end) pieces.push_back({part.bytes.subspan(begin - at, end - begin), donor});
    }
    at += part.bytes.size();
  }
  return pieces;
}

/// Of what a donor sends.
std::uint64_t digest(std::span<const Piece> pieces, std::size_t donor) {
  std::uint64_t word = 0;
  for (const Piece& piece : pieces)
    if (piece.donor == donor) word = mix64(word, checksum_of(piece.bytes));
  return word;
}

}  // namespace

Result<Membership> join(const StartMessage& start, const FormMessage& form, AgentLink& link,
                        const std::optional<ComputeFingerprint>& own) {
  ConnectCancel cancel;
  Result<Membership> membership = [&] {
    const AgentLink::Interruption interruption(
        link, form.generation, [&cancel](const std::string& reason) { cancel.cancel(reason); });
    return connect(start, form, cancel);
  }();
  if (!membership.ok()) return membership;
  Communicator& communicator = *membership->communicator;
  const AgentLink::Interruption interruption(
      link, form.generation, [&communicator](const std::string& reason) { communicator.abort(reason); });
  PACELINE_TRY(check_joiners(communicator, form, own));
  return membership;
}

Preparation::Preparation(const StartMessage& start, const FormMessage& form,
                         const std::optional<ComputeFingerprint>& own, const Trainer& trainer)
    : form_(form), result_(Membership{form, nullptr}) {
  if (form.rank < 0) {
    ended_ = true;
    return;
  }
  thread_ = std::thread([this, &start, own, &trainer] {
    result_ = prepare(start, own, trainer);
    ended_ = true;
  });
}

Result<Membership> Preparation::prepare(const StartMessage& start,
                                        const std::optional<ComputeFingerprint>& own,
                                        const Trainer& trainer) {
  PACELINE_ASSIGN(Membership membership, connect(start, form_, cancel_));
  Communicator& communicator = *membership.communicator;
  if (!use(&communicator)) return Error{ErrorCode::aborted, given_up};
  const Status done = make_ready(membership, own, trainer);
  [[maybe_unused]] const bool wanted = use(nullptr);
  if (!done.ok()) return done.error();
  return membership;
}

Status Preparation::make_ready(Membership& membership, const std::optional<ComputeFingerprint>& own,
                               const Trainer& trainer) const {
  Communicator& communicator = *membership.communicator;
  PACELINE_TRY(check_joiners(communicator, form_, own));
  Status made;
  try {
    Result<Trainer::Buffers> buffers = trainer.make_buffers(communicator);
    if (buffers.ok())
      membership.buffers = std::move(*buffers);
    else
      made = buffers.error();
  } catch (const std::exception& exception) {
    made = Error{ErrorCode::internal, exception.what()};
  }
  if (!made.ok()) communicator.abort(made.error().message);  // the others wait, and do not know
  return made;
}

bool Preparation::use(Communicator* communicator) {
  const std::lock_guard lock(mutex_);
  used_ = communicator;
  return !given_up_;
}

Preparation::~Preparation() {
  cancel_.cancel(given_up);
  {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    if (used_ != nullptr) used_->abort(given_up);
  }
  if (thread_.joinable()) thread_.join();
}

bool Preparation::ready() const noexcept {
  if (!ended_ || !result_.ok()) return false;
  return result_->communicator == nullptr || result_->communicator->health().ok();
}

Result<Membership> Preparation::take() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(result_, Error{ErrorCode::internal, "it has been taken"});
}

std::int64_t bytes_of(std::span<const StatePart> state) {
  std::int64_t bytes = 0;
  for (const StatePart& part : state) bytes += std::ssize(part.bytes);
  return bytes;
}

CheckpointSlice slice_of_donor(std::span<const StatePart> state, std::int64_t donor, std::int64_t donors) {
  return checkpoint_slice(bytes_of(state), donor, donors);
}

Status transfer_state(Communicator& communicator, std::int64_t donors, std::span<const StatePart> state,
                      bool all_is_there) {
  const auto count = static_cast<std::size_t>(donors);
  const std::vector<Piece> pieces = deal(state, count);
  const bool gives = communicator.rank() < donors;
  std::vector<Work> works;
  for (const Piece& piece : pieces)
    works.push_back(communicator.broadcast_async(piece.bytes.data(), piece.bytes.size(), DataType::u8,
                                                 static_cast<int>(piece.donor), 0, gives && all_is_there));
  // What a donor sends, while others still do.
  const auto own = static_cast<std::size_t>(communicator.rank());
  std::vector<std::uint64_t> sent(static_cast<std::size_t>(communicator.size()), 0);
  if (gives) sent[own] = digest(pieces, own);
  PACELINE_TRY(wait_all(works));
  PACELINE_TRY(communicator.all_gather(sent.data(), 1, DataType::i64));
  // Between nodes donors get each other's parts as well.
  if (gives && all_is_there && communicator.topology().nodes.size() == 1) return {};
  // What came from others is held against what each says that it sent.
  for (std::size_t donor = 0; donor < count; ++donor)
    if (digest(pieces, donor) != sent[donor])
      return Error{ErrorCode::corrupt,
                   concat("the training state that rank ", communicator.rank(), " got from rank ", donor,
                          " is not what that sent: its memory or the network is at fault"),
                   static_cast<int>(donor)};
  return {};
}

}  // namespace paceline
