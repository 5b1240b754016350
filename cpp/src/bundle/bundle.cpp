#include "bundle/bundle.hpp"

#include <chrono>

#include "bundle/fewer_branches.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

/// A bundle that is replaced again and again is read again for this long.
constexpr std::chrono::seconds PATIENCE{10};

Manifest opened_manifest(Files &files) {
    Manifest manifest = decode_manifest(files.read_manifest(), files.path());
    for (const auto &file : manifest.files) {
        files.open(file.first);  // open all files first: they stay readable if the bundle is replaced
    }
    return manifest;
}

}  // namespace

Bundle verified_bundle(std::shared_ptr<Files> files, std::int64_t branches) {
    Bundle bundle;
    bundle.manifest = opened_manifest(*files);
    bundle.files = std::move(files);
    bundle.model_file = bundle.manifest.runtime ? bundle.manifest.runtime->file : MODEL_FILE;
    if (branches != 0 && branches != bundle.manifest.branches) {
        bundle.model_file = choose_branches(bundle.manifest, branches, bundle.files->path());
        bundle.first = branches;
    }
    const bool outside = bundle.manifest.files.count(WEIGHTS_FILE) != 0;
    bundle.by_path = outside && !bundle.files->path_for_runtime(bundle.model_file).empty();
    for (const auto &[name, entry] : bundle.manifest.files) {
        if (!bundle.by_path && name == bundle.model_file) {
            bundle.model = bundle.files->verified(name, entry);
        } else if (!bundle.by_path && name == WEIGHTS_FILE) {
            bundle.weights = bundle.files->verified(name, entry);
        } else {
            bundle.files->verify(name, entry);
        }
    }
    bundle.files->require_no_others();
    return bundle;
}

void verify_only(Files &files) {
    const Manifest manifest = opened_manifest(files);
    for (const auto &[name, entry] : manifest.files) {
        files.verify(name, entry);
    }
    files.require_no_others();
}

void reading(const std::string &path, const std::function<void(std::shared_ptr<Files>)> &use) {
    const auto started = std::chrono::steady_clock::now();
    for (;;) {
        const std::shared_ptr<Files> files = open_folder(path);
        const bool late = std::chrono::steady_clock::now() - started > PATIENCE;
        try {
            return use(files);
        } catch (const ReplacedError &) {
            if (late) {
                throw;
            }
        } catch (const Error &) {
            // If the bundle was just replaced, another process may be removing its files.
            if (late || !files->is_gone()) {
                throw;
            }
        }
    }
}

}  // namespace paraexport::core
