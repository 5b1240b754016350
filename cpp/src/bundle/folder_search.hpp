/// Finds the folder of a bundle while another process replaces it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "bundle/files.hpp"

namespace paraexport::core {

/// The folder at `real`, which messages call `path`; null if nothing is there.
std::unique_ptr<Files> open_folder_at(const std::string &path, const std::string &real);

/// Throw if the folder at `real`, which messages call `path`, has files that are not listed.
void refuse_others(const std::string &path, const std::filesystem::path &real,
                   const std::function<bool(const std::string &)> &is_listed);

}  // namespace paraexport::core
