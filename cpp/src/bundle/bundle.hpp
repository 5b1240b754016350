/// Opens and verifies a bundle.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "bundle/files.hpp"
#include "bundle/manifest.hpp"

namespace paraexport::core {

/// A bundle whose files agree with its manifest.
struct Bundle {
    Manifest manifest;  ///< of the chosen model
    std::shared_ptr<Files> files;
    std::int64_t first = 0;  ///< use only the first branches: this many; 0 for all
    std::string model_file;  ///< the file that the runtime opens
    /// The bytes of the file that the runtime opens. Empty if its weights are in a second file of a folder: then the
    /// runtime must open both by path.
    std::string model;
    std::string weights;  ///< of a second file, if the bundle is in memory
    bool by_path = false;
};

/// Verify every file, and choose the model with the first `branches` of the branches; 0 for all.
///
/// Throws an Error if the bundle has no model with this number.
Bundle verified_bundle(std::shared_ptr<Files> files, std::int64_t branches);
/// Verify every file without keeping the model.
void verify_only(Files &files);

/// `use` of the bundle in the folder at `path`. If another process replaces it meanwhile, open the new one and use it.
void reading(const std::string &path, const std::function<void(std::shared_ptr<Files>)> &use);

}  // namespace paraexport::core
