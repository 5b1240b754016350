/// Finds contradictions in a manifest whose types are right.
#pragma once

#include <string>
#include <vector>

#include "bundle/json.hpp"

namespace paraexport::core {

/// Each contradiction as one clause, in the words of the Python package.
std::vector<std::string> contradictions(const Json &manifest);

}  // namespace paraexport::core
