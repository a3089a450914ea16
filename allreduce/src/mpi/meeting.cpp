#include "meeting.hpp"

#include <array>
#include <cstring>
#include <mutex>

namespace paceline::mpi {
namespace {

/// Under this key MPI communicators keep their duplicate (as std::shared_ptr<Duplicate>*).
int duplicate_key = MPI_KEYVAL_INVALID;
std::mutex duplicate_mutex;

int forget_duplicate(MPI_Comm, int, void* kept, void*) {
  delete static_cast<std::shared_ptr<Duplicate>*>(kept);
  return MPI_SUCCESS;
}

Result<std::shared_ptr<Duplicate>*> kept_duplicate(MPI_Comm mpi) {
  const std::lock_guard lock(duplicate_mutex);
  if (duplicate_key == MPI_KEYVAL_INVALID)
    PACELINE_TRY(
        check(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, &forget_duplicate, &duplicate_key, nullptr),
              "MPI_Comm_create_keyval"));
  void* kept = nullptr;
  int found = 0;
  PACELINE_TRY(check(MPI_Comm_get_attr(mpi, duplicate_key, &kept, &found), "MPI_Comm_get_attr"));
  return found != 0 ? static_cast<std::shared_ptr<Duplicate>*>(kept) : nullptr;
}

/// What a collective of MPI works on, left alone for ever if it does not end.
template <class Values>
class Shelf {
 public:
  explicit Shelf(Values values) : values_(new Values(std::move(values))) {}
  Shelf(const Shelf&) = delete;
  Shelf& operator=(const Shelf&) = delete;
  ~Shelf() {
    if (request_ == MPI_REQUEST_NULL) delete values_;
  }
  [[nodiscard]] Values& values() { return *values_; }
  [[nodiscard]] MPI_Request& request() { return request_; }

 private:
  Values* values_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

/// An Invitation as it travels.
struct Card {
  std::uint32_t port = 0;
  char host[256] = {};
  char secret[257] = {};
  char refusal[1024] = {};
};

template <std::size_t room>
void put(char (&into)[room], const std::string& text) {
  std::memcpy(into, text.data(), std::min(text.size(), room - 1));
}

}  // namespace

Result<std::shared_ptr<Duplicate>> duplicate_of(MPI_Comm mpi, const Deadline& deadline) {
  PACELINE_ASSIGN(const auto* kept, kept_duplicate(mpi));
  if (kept != nullptr) return *kept;
  Shelf<MPI_Comm> fresh(MPI_COMM_NULL);
  PACELINE_TRY(check(MPI_Comm_idup(mpi, &fresh.values(), &fresh.request()), "MPI_Comm_idup"));
  PACELINE_TRY(finish(fresh.request(), deadline, "duplicating the MPI communicator"));
  auto duplicate = std::make_shared<Duplicate>();
  duplicate->comm = fresh.values();
  PACELINE_TRY(check(MPI_Comm_set_errhandler(duplicate->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
  auto owner = std::make_unique<std::shared_ptr<Duplicate>>(duplicate);
  PACELINE_TRY(check(MPI_Comm_set_attr(mpi, duplicate_key, owner.get()), "MPI_Comm_set_attr"));
  [[maybe_unused]] const auto* given_to_mpi = owner.release();
  return duplicate;
}

Result<Agreement> agree(MPI_Comm comm, const Proposal& proposal, const Deadline& deadline) {
  // The greatest of x and the greatest of its complement: equal numbers give each other's complement.
  const auto transport = static_cast<std::uint64_t>(proposal.transport);
  using Values = std::array<std::uint64_t, 5>;
  Shelf<Values> shelf({proposal.host, ~proposal.host, transport, ~transport, proposal.ready ? 0U : 1U});
  Values& values = shelf.values();
  PACELINE_TRY(check(MPI_Iallreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()),
                                    MPI_UINT64_T, MPI_MAX, comm, &shelf.request()),
                     "MPI_Iallreduce"));
  PACELINE_TRY(finish(shelf.request(), deadline, "the ranks' agreement over MPI"));
  return Agreement{values[0] == ~values[1], values[2] == ~values[3], values[4] == 0};
}

Status spread(MPI_Comm comm, Invitation& invitation, const Deadline& deadline) {
  Shelf<Card> shelf({});
  Card& card = shelf.values();
  card.port = invitation.port;
  put(card.host, invitation.host);
  put(card.secret, invitation.secret);
  put(card.refusal, invitation.refusal);
  PACELINE_TRY(check(MPI_Ibcast(&card, sizeof card, MPI_BYTE, 0, comm, &shelf.request()), "MPI_Ibcast"));
  PACELINE_TRY(finish(shelf.request(), deadline, "rank 0's invitation over MPI"));
  invitation = {card.host, static_cast<std::uint16_t>(card.port), card.secret, card.refusal};
  return {};
}

}  // namespace paceline::mpi
