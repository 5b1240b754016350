/// Finds and opens the shared library of a runtime while the program runs.
#pragma once

#include <string>
#include <vector>

namespace paraexport::core {

class Library;

/// Where a runtime's library can be.
struct LibraryNames {
    const char *title;                        ///< for messages, `ONNX Runtime`
    const char *variable;                     ///< the environment variable with its path
    std::vector<std::string> stems;           ///< file names without extension and version, `libonnxruntime`
    std::vector<std::string> python_folders;  ///< below `site-packages`
    const char *remedy;
    /// Why a library that was opened is of no use; empty if it can be used.
    std::string (*refusal)(const Library &) = nullptr;
};

/// A loaded library. It stays loaded until the process ends, because runtimes keep threads of their own.
class Library {
public:
    /// Open the library at `given`, a file or folder, or search for it if `given` is empty.
    ///
    /// Throws an Error that lists the files that were tried and the message of the system's loader.
    Library(const LibraryNames &names, const std::string &given);

    const std::string &path() const { return path_; }
    bool has(const char *name) const;
    /// The address of a function; throws an Error if the library lacks it.
    void *symbol(const char *name) const;

    template <typename Function>
    Function function(const char *name) const {
        return reinterpret_cast<Function>(symbol(name));
    }

private:
    std::string title_, path_;
    void *handle_ = nullptr;
};

}  // namespace paraexport::core
