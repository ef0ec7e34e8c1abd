// The mistakes of base/plants.h by name: what `millrace-sim --plant` takes and lists.
#pragma once

#include <span>
#include <string_view>

#include "base/plants.h"

namespace millrace::sim {

struct PlantName {
  Plant plant;
  std::string_view name;
  std::string_view room;  // where it sits
};

/// All of them, room by room.
std::span<const PlantName> plant_names();
/// Null: no such one.
const PlantName* find_plant(std::string_view name);

/// For as long as it lives, what this thread runs has the mistake. Without effect in a build that has none.
class Planting {
 public:
  explicit Planting(Plant plant);
  ~Planting();
  Planting(const Planting&) = delete;
  Planting& operator=(const Planting&) = delete;

  /// Whether this build has them at all.
  static bool possible();
};

}  // namespace millrace::sim
