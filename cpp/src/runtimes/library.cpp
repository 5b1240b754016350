#include "runtimes/library.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "error.hpp"
#include "runtimes/shared_object.hpp"

namespace paraexport::core {
namespace {

namespace fs = std::filesystem;

std::string variable(const char *name) {
    const char *value = std::getenv(name);
    return value == nullptr ? std::string{} : std::string{value};
}

/// The files of a folder that are the library, with any version in the name; the latest first.
std::vector<std::string> libraries_in(const fs::path &folder, const LibraryNames &names) {
    std::vector<std::string> files;
    std::error_code ignored;
    for (fs::directory_iterator entry{folder, ignored}, end; !ignored && entry != end; entry.increment(ignored)) {
        const std::string file = entry->path().filename().string();
        for (const std::string &stem : names.stems) {
            if (is_shared_object(file, stem)) {
                files.push_back(entry->path().string());
            }
        }
    }
    std::sort(files.rbegin(), files.rend());
    return files;
}

/// `lib/python3.*/site-packages` of the active environments.
std::vector<fs::path> site_packages() {
    std::vector<fs::path> folders;
    std::error_code ignored;
    for (const char *name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
        const std::string prefix = variable(name);
        if (prefix.empty()) {
            continue;
        }
        folders.push_back(fs::path{prefix} / "Lib" / "site-packages");  // on Windows
        for (fs::directory_iterator entry{fs::path{prefix} / "lib", ignored}, end; !ignored && entry != end;
             entry.increment(ignored)) {
            if (entry->path().filename().string().rfind("python3", 0) == 0) {
                folders.push_back(entry->path() / "site-packages");
            }
        }
    }
    return folders;
}

/// The files of a path that the program or the environment gives.
std::vector<std::string> given_files(const std::string &given, const LibraryNames &names) {
    std::error_code ignored;
    if (!fs::is_directory(given, ignored)) {
        return {given};
    }
    std::vector<std::string> files = libraries_in(given, names);
    if (files.empty()) {
        files.push_back((fs::path{given} / shared_object_name(names.stems.front())).string());
    }
    return files;
}

std::vector<std::string> searched_files(const LibraryNames &names) {
    std::vector<std::string> files = libraries_in(own_folder(), names);
    const auto add = [&](std::vector<std::string> more) { files.insert(files.end(), more.begin(), more.end()); };
    for (const std::string &stem : names.stems) {
        add(loaded_files(stem));
    }
    for (const fs::path &packages : site_packages()) {
        for (const std::string &folder : names.python_folders) {
            add(libraries_in(packages / folder, names));
        }
    }
    for (const std::string &stem : names.stems) {
        add(system_names(stem));
    }
    return files;
}

}  // namespace

Library::Library(const LibraryNames &names, const std::string &given) : title_{names.title} {
    const std::string from_variable = variable(names.variable);
    const std::vector<std::string> files = !given.empty()           ? given_files(given, names)
                                           : !from_variable.empty() ? given_files(from_variable, names)
                                                                    : searched_files(names);
    std::string tried, reason, last_reason;
    for (const std::string &file : files) {
        handle_ = open_shared_object(file, last_reason);
        if (handle_ != nullptr) {
            path_ = path_of_shared_object(handle_, file);
            return;
        }
        tried += (tried.empty() ? "" : ", ") + file;
        // A library that exists but does not load explains more than one that does not exist.
        std::error_code ignored;
        if (reason.empty() || fs::exists(file, ignored)) {
            reason = last_reason;
        }
    }
    throw missing({std::string{names.title} + " cannot be loaded",
                   {},
                   "one of " + tried,
                   reason,
                   std::string{names.remedy} + ", or set " + names.variable + " to the path of the library"});
}

void *Library::symbol(const char *name) const {
    void *address = symbol_of(handle_, name);
    if (address == nullptr) {
        throw missing(
            {"the library of " + title_ + " has no function " + name, path_, {}, {}, "install a newer version"});
    }
    return address;
}

}  // namespace paraexport::core
