// The features of the cluster (KIP-584): which levels this version of the program can do, and whether brokers
// fit the levels that are in force.
#pragma once

#include <map>
#include <string>

#include "meta/image.h"

namespace millrace::control {

/// What a controller of this version accepts, by name.
const std::map<std::string, meta::FeatureRange>& supported_features();

/// Why a broker with these ranges cannot be in the cluster; empty if it can. A broker that names no range of
/// a feature can do what this version can.
std::string misfit_of_features(const meta::Image& image,
                               const std::map<std::string, meta::FeatureRange>& ranges);

}  // namespace millrace::control
