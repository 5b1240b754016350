#include "runtimes/shared_object.hpp"

#include <filesystem>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#if defined(__linux__)
#include <link.h>
#endif
#endif

namespace paraexport::core {
namespace {

#if defined(_WIN32)
constexpr std::string_view EXTENSION = ".dll";
#elif defined(__APPLE__)
constexpr std::string_view EXTENSION = ".dylib";
#else
constexpr std::string_view EXTENSION = ".so";
#endif

/// An address inside this library.
const char MARK = 0;

}  // namespace

std::string shared_object_name(const std::string &stem) {
#if defined(_WIN32)
    return (stem.rfind("lib", 0) == 0 ? stem.substr(3) : stem) + std::string{EXTENSION};
#else
    return stem + std::string{EXTENSION};
#endif
}

bool is_shared_object(std::string_view file, const std::string &stem) {
    const std::string name = shared_object_name(stem);
    // `.so.1.32.0` on Linux, `.1.32.0.dylib` on macOS
    const std::string start = name.substr(0, name.size() - EXTENSION.size());
    if (file.substr(0, start.size()) != start) {
        return false;
    }
    const std::string_view rest = file.substr(start.size());
    const auto is_version = [](std::string_view text) {
        return text.find_first_not_of("0123456789.") == std::string_view::npos;
    };
    const std::size_t at = rest.find(EXTENSION);
    return at != std::string_view::npos && is_version(rest.substr(0, at)) &&
           is_version(rest.substr(at + EXTENSION.size()));
}

std::string version_in_name(std::string_view file, const std::string &stem) {
    const std::size_t digit = file.find_first_of("0123456789", stem.size());
    if (digit == std::string_view::npos) {
        return {};
    }
    const std::string_view rest = file.substr(digit);
    return std::string{rest.substr(0, rest.find_first_not_of("0123456789."))};
}

#if defined(_WIN32)

std::vector<std::string> system_names(const std::string &stem) {
    return {shared_object_name(stem)};
}

std::vector<std::string> loaded_files(const std::string & /*stem*/) {
    return {};
}

void *open_shared_object(const std::string &file, std::string &reason) {
    HMODULE handle = LoadLibraryExA(file.c_str(), nullptr, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (handle == nullptr) {
        reason = "error " + std::to_string(GetLastError());
    }
    return handle;
}

void *symbol_of(void *handle, const char *name) {
    return reinterpret_cast<void *>(GetProcAddress(static_cast<HMODULE>(handle), name));
}

std::string path_of_shared_object(void *handle, const std::string &file) {
    char path[MAX_PATH];
    const DWORD length = GetModuleFileNameA(static_cast<HMODULE>(handle), path, sizeof path);
    return length == 0 ? file : std::string{path, length};
}

std::string own_folder() {
    HMODULE handle = nullptr;
    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, &MARK,
                       &handle);
    return std::filesystem::path{path_of_shared_object(handle, {})}.parent_path().string();
}

#else

std::vector<std::string> system_names(const std::string &stem) {
    const std::string name = shared_object_name(stem);
    return {name + ".1", name};
}

std::vector<std::string> loaded_files(const std::string &stem) {
#if defined(__linux__)
    struct Search {
        const std::string &stem;
        std::vector<std::string> files;
    } search{stem, {}};
    dl_iterate_phdr(
        [](dl_phdr_info *info, std::size_t /*size*/, void *data) {
            auto &found = *static_cast<Search *>(data);
            if (info->dlpi_name != nullptr &&
                is_shared_object(std::filesystem::path{info->dlpi_name}.filename().string(), found.stem)) {
                found.files.emplace_back(info->dlpi_name);
            }
            return 0;
        },
        &search);
    return search.files;
#else
    (void)stem;
    return {};
#endif
}

void *open_shared_object(const std::string &file, std::string &reason) {
    void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        const char *text = dlerror();
        reason = text == nullptr ? "the loader gives no reason" : text;
    }
    return handle;
}

void *symbol_of(void *handle, const char *name) {
    return dlsym(handle, name);
}

std::string path_of_shared_object(void *handle, const std::string &file) {
#if defined(__linux__)
    link_map *map = nullptr;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && map->l_name != nullptr &&
        map->l_name[0] != '\0') {
        return map->l_name;
    }
#else
    (void)handle;
#endif
    return file;
}

std::string own_folder() {
    Dl_info info{};
    if (dladdr(&MARK, &info) == 0 || info.dli_fname == nullptr) {
        return {};
    }
    return std::filesystem::path{info.dli_fname}.parent_path().string();
}

#endif

}  // namespace paraexport::core
