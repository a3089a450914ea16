#include "operation.hpp"

#include "paceline/base/text.hpp"

namespace paceline {

std::size_t element_bytes(DataType type) noexcept {
  return type == DataType::f32 || type == DataType::i32 ? 4 : 8;
}

std::string_view to_string(DataType type) noexcept {
  switch (type) {
    case DataType::f32: return "f32";
    case DataType::f64: return "f64";
    case DataType::i32: return "i32";
    case DataType::i64: return "i64";
  }
  return "unknown type";
}

std::string_view to_string(ReduceOp op) noexcept {
  switch (op) {
    case ReduceOp::sum: return "sum";
    case ReduceOp::min: return "min";
    case ReduceOp::max: return "max";
  }
  return "unknown operation";
}

std::string describe(const Descriptor& d) {
  switch (d.kind) {
    case CollectiveKind::all_reduce:
      return concat("all_reduce(", to_string(d.op), ") of ", d.count, " ", to_string(d.type), " (operation ",
                    d.operation, ")");
    case CollectiveKind::broadcast:
      return concat("broadcast of ", d.count, " ", to_string(d.type), " from rank ", d.root, " (operation ",
                    d.operation, ")");
    case CollectiveKind::all_gather:
      return concat("all_gather of ", d.count, " ", to_string(d.type), " per rank (operation ", d.operation,
                    ")");
    case CollectiveKind::barrier: return concat("barrier (operation ", d.operation, ")");
  }
  return concat("unknown collective ", static_cast<int>(d.kind));
}

Error mismatch_error(int rank, const Descriptor& mine, int other, const Descriptor& theirs) {
  return {ErrorCode::mismatch,
          concat("ranks do not call the same collective: rank ", other, " called ", describe(theirs),
                 " where rank ", rank, " called ", describe(mine)),
          other};
}

}  // namespace paceline
