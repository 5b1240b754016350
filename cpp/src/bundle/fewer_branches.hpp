/// The models with only the first branches, which a bundle holds beside the whole one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace paraexport::core {

/// Add the contradictions of `fewer_branches` in a manifest whose types are right, each as one clause.
void check_fewer_branches(const Json &manifest, std::vector<std::string> &clauses);

/// Change the manifest of the whole model into that of the first `count` branches, and return the file of that model.
/// `bundle` is the path of the bundle, for messages.
///
/// Throws an Error if the bundle has no model with this number.
std::string choose_branches(Manifest &manifest, std::int64_t count, const std::string &bundle);

}  // namespace paraexport::core
