#include "hdf5_session.hpp"

#include <string>

#include "paceline/base/text.hpp"

namespace paceline::hdf5 {
namespace {

std::mutex& library_mutex() {
  static std::mutex the_mutex;  // guards the library's own global state, so there is one of it
  return the_mutex;
}

herr_t keep_deepest(unsigned depth, const H5E_error2_t* entry, void* text) {
  if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
  return 0;
}

}  // namespace

Session::Session() : lock_(library_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() {
  H5Eset_auto2(H5E_DEFAULT, print_, print_data_);
}

Error failure(std::string_view what) {
  std::string deepest = "no reason given";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_deepest, &deepest);
  return {ErrorCode::io, concat(what, " (HDF5: ", deepest, ")")};
}

std::vector<hsize_t> dimensions(std::int64_t first, const std::vector<std::int64_t>& rest) {
  std::vector<hsize_t> result = {static_cast<hsize_t>(first)};
  result.insert(result.end(), rest.begin(), rest.end());
  return result;
}

Handle access_properties() {
  Handle properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (properties.valid()) H5Pset_file_locking(properties.get(), false, true);
  return properties;
}

}  // namespace paceline::hdf5
