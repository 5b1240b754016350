#include "bundle/folder_search.hpp"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "bundle/sha256.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

namespace fs = std::filesystem;

/// A path must be empty this often in a row before it counts as missing.
constexpr int LOOKS = 3;

/// The old bundle, if a process has moved it aside to replace it (`docs/bundle.md`, "Replacing").
std::string moved_aside(const std::string &path) {
    std::error_code ignored;
    const fs::path bundle = fs::absolute(path, ignored).lexically_normal();
    const fs::path named = bundle.has_filename() ? bundle : bundle.parent_path();
    const std::string start = ".paraexport-" + sha256_hex(named.filename().string()).substr(0, 12) + "-";
    for (fs::directory_iterator entry{named.parent_path(), ignored}, end; !ignored && entry != end;
         entry.increment(ignored)) {
        const fs::path old = entry->path() / "old";
        if (entry->path().filename().string().rfind(start, 0) == 0 && fs::is_directory(old, ignored)) {
            return old.string();
        }
    }
    return {};
}

}  // namespace

std::unique_ptr<Files> open_folder(const std::string &given) {
    const std::size_t end = given.find_last_not_of('/');
    const std::string path = end == std::string::npos ? given : given.substr(0, end + 1);
    for (int look = 0; look < LOOKS; ++look) {
        if (auto folder = open_folder_at(path, path)) {
            return folder;
        }
        if (const std::string old = moved_aside(path); !old.empty()) {
            if (auto folder = open_folder_at(path, old)) {
                return folder;
            }
        }
    }
    throw bad_input({"not a bundle", path, "a folder", "nothing", BUILD_ONE});
}

void refuse_others(const std::string &path, const fs::path &real,
                   const std::function<bool(const std::string &)> &is_listed) {
    std::vector<std::string> others;
    for (const auto &entry : fs::recursive_directory_iterator(real)) {
        const std::string name = entry.path().lexically_relative(real).generic_string();
        if (!entry.is_directory() && !is_listed(name)) {
            others.push_back(name);
        }
    }
    if (others.empty()) {
        return;
    }
    std::sort(others.begin(), others.end());
    std::string got;
    for (std::size_t i = 0; i < std::min<std::size_t>(others.size(), 3); ++i) {
        got += (got.empty() ? "" : ", ") + others[i];
    }
    throw bad_input({"files that the manifest does not list", path, {}, got, "move them out of the bundle"});
}

}  // namespace paraexport::core
