/// Finds contradictions in a manifest whose types are right.
#pragma once

#include <string>
#include <vector>

#include "bundle/json.hpp"

namespace paraexport::core {

/// Each contradiction as one clause, in the words of the Python package.
std::vector<std::string> contradictions(const Json &manifest);

/// One clause for each failed check; `whose` is "" or " of 2 branches".
void add_failed_checks(const Json &checks, const std::string &whose, std::vector<std::string> &clauses);

}  // namespace paraexport::core
