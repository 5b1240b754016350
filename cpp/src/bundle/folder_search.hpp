/// Finds the folder of a bundle while another process replaces it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle/files.hpp"

namespace paraexport::core {

/// The folder at `real`, which messages call `path`; null if nothing is there.
std::unique_ptr<Files> open_folder_at(const std::string &path, const std::string &real);

/// Throw if there are files that the manifest does not list.
void refuse_others(const std::string &path, std::vector<std::string> others);

}  // namespace paraexport::core
