#include "runtimes/library.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "error.hpp"
#include "runtimes/known.hpp"
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
    struct Versioned {
        std::string path, version;
    };
    std::vector<Versioned> found;
    std::error_code ignored;
    for (fs::directory_iterator entry{folder, ignored}, end; !ignored && entry != end; entry.increment(ignored)) {
        const std::string file = entry->path().filename().string();
        std::error_code unknown;
        for (const std::string &stem : names.stems) {
            if (is_shared_object(file, stem) && fs::is_regular_file(entry->path(), unknown)) {
                found.push_back({entry->path().string(), version_in_name(file, stem)});
            }
        }
    }
    std::sort(found.begin(), found.end(), [](const Versioned &one, const Versioned &other) {
        if (is_older(one.version, other.version) || is_older(other.version, one.version)) {
            return is_older(other.version, one.version);
        }
        return one.path > other.path;
    });
    std::vector<std::string> files;
    files.reserve(found.size());
    for (Versioned &file : found) {
        files.push_back(std::move(file.path));
    }
    return files;
}

/// `lib/python3.*/site-packages` of an environment.
std::vector<fs::path> site_packages(const fs::path &prefix) {
    std::vector<fs::path> folders{prefix / "Lib" / "site-packages"};  // on Windows
    std::error_code ignored;
    for (fs::directory_iterator entry{prefix / "lib", ignored}, end; !ignored && entry != end;
         entry.increment(ignored)) {
        if (entry->path().filename().string().rfind("python3", 0) == 0) {
            folders.push_back(entry->path() / "site-packages");
        }
    }
    return folders;
}

/// The libraries in the Python packages of an environment.
std::vector<std::string> libraries_of_environment(const fs::path &prefix, const LibraryNames &names) {
    std::vector<std::string> files;
    for (const fs::path &packages : site_packages(prefix)) {
        for (const std::string &folder : names.python_folders) {
            const std::vector<std::string> more = libraries_in(packages / folder, names);
            files.insert(files.end(), more.begin(), more.end());
        }
    }
    return files;
}

/// The files of a path that the program or the environment gives: a file, a folder with the library, the folder of a
/// Python package, or the folder of an environment of Python.
std::vector<std::string> given_files(const std::string &given, const LibraryNames &names) {
    std::error_code ignored;
    if (!fs::is_directory(given, ignored)) {
        return {given};
    }
    std::vector<std::string> files = libraries_in(given, names);
    for (const std::string &folder : names.python_folders) {
        const std::size_t slash = folder.find('/');
        if (files.empty() && slash != std::string::npos) {
            files = libraries_in(fs::path{given} / folder.substr(slash + 1), names);
        }
    }
    if (files.empty()) {
        files = libraries_of_environment(given, names);
    }
    if (files.empty()) {
        files.push_back((fs::path{given} / shared_object_name(names.stems.front())).string());
    }
    return files;
}

/// Why a file must not be given to the loader; empty if it may. A pipe would keep the loader waiting for ever.
std::string unusable(const fs::path &file) {
    std::error_code failed;
    const fs::file_status status = fs::status(file, failed);
    const bool odd = file.has_parent_path() && fs::exists(status) && !fs::is_regular_file(status);
    return odd ? "not a regular file" : "";
}

std::vector<std::string> searched_files(const LibraryNames &names) {
    std::vector<std::string> files = libraries_in(own_folder(), names);
    const auto add = [&](std::vector<std::string> more) { files.insert(files.end(), more.begin(), more.end()); };
    for (const std::string &stem : names.stems) {
        add(loaded_files(stem));
    }
    for (const char *name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
        if (const std::string prefix = variable(name); !prefix.empty()) {
            add(libraries_of_environment(prefix, names));
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
    std::string tried, reason;
    bool explained = false;
    for (const std::string &file : files) {
        std::string refusal = unusable(file);
        if (refusal.empty() && (handle_ = open_shared_object(file, refusal)) != nullptr) {
            path_ = path_of_shared_object(handle_, file);
            refusal = names.refusal == nullptr ? "" : names.refusal(*this);
            if (refusal.empty()) {
                return;
            }
            refusal = path_ + ": " + refusal;
        }
        tried += (tried.empty() ? "" : ", ") + file;
        // The first library that exists but is of no use explains more than one that does not exist.
        std::error_code ignored;
        const bool exists = handle_ != nullptr || fs::exists(file, ignored);
        if (reason.empty() || (exists && !explained)) {
            reason = refusal;
        }
        explained = explained || exists;
        handle_ = nullptr;
    }
    std::string remedy = std::string{names.remedy} + ", or set " + names.variable + " to the path of the library";
    if (!names.python_folders.empty()) {
        const std::string &folder = names.python_folders.front();
        remedy += "; if it was installed with pip, activate its environment, or set " + std::string{names.variable} +
                  " to its folder " + folder.substr(0, folder.find('/'));
    }
    throw missing({title_ + " cannot be loaded", {}, "one of " + tried, reason, remedy});
}

bool Library::has(const char *name) const {
    return symbol_of(handle_, name) != nullptr;
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
