/// What differs between systems in opening shared libraries.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace paraexport::core {

/// `libonnxruntime` -> `libonnxruntime.so`.
std::string shared_object_name(const std::string &stem);
/// Whether a file name is that library, with or without a version.
bool is_shared_object(std::string_view file, const std::string &stem);
/// The version in the name of such a file, `1.32.0`; empty if it has none.
std::string version_in_name(std::string_view file, const std::string &stem);
/// The names under which the system's loader may know it.
std::vector<std::string> system_names(const std::string &stem);
/// The files of this name that the process has loaded already.
std::vector<std::string> loaded_files(const std::string &stem);

/// Null if it cannot be opened; then `reason` has the message of the loader.
void *open_shared_object(const std::string &file, std::string &reason);
void *symbol_of(void *handle, const char *name);
/// The file that was opened, or `file` if the system does not say.
std::string path_of_shared_object(void *handle, const std::string &file);
/// The folder of this library itself.
std::string own_folder();

}  // namespace paraexport::core
