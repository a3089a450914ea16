#include "where/adapters.hpp"

namespace paceline {

Place shell_place(const Environment& environment) {
  Place place;
  place.why = "no launcher's variables are set";
  place.node = node_name(environment);
  place.nodes = 1;
  return place;
}

}  // namespace paceline
