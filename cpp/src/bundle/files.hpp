/// The files of a bundle, wherever they are. Only verified files are given out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "bundle/manifest.hpp"
#include "paraexport.h"

namespace paraexport::core {

/// The largest file other than the model that is read whole.
inline constexpr std::int64_t IN_MEMORY_BYTES = std::int64_t{1} << 30;

class Files {
public:
    explicit Files(std::string path) : path_{std::move(path)} {}
    virtual ~Files() = default;
    Files(const Files &) = delete;
    Files &operator=(const Files &) = delete;

    /// The path that messages show.
    const std::string &path() const { return path_; }
    std::string where(const std::string &name) const { return path_ + "/" + name; }

    /// The content of the manifest, which nothing lists.
    std::string read_manifest();
    /// Check the size and the sha256 of a file, and allow reading it from now on.
    void verify(const std::string &name, const FileEntry &entry);
    /// The same, and its content: exactly the bytes that were verified.
    std::string verified(const std::string &name, const FileEntry &entry);
    /// The content of a file that was verified before. Its sha256 is checked again.
    std::string read(const std::string &name);
    bool has(const std::string &name) const { return entries_.count(name) != 0; }

    /// Open the file, so that it stays readable if the bundle is replaced. Throws if it is missing or odd.
    virtual void open(const std::string &name) = 0;
    /// A path by which a runtime opens exactly the verified file; empty if the files are only in memory.
    virtual std::string path_for_runtime(const std::string & /*name*/) { return {}; }
    /// Refuse files that the manifest does not list, if the model could name one.
    virtual void require_no_others() {}
    /// Throw unless the files are still those that were verified.
    virtual void require_unchanged() {}
    /// Whether the files belong to the program, and may be gone after the bundle was opened.
    virtual bool in_memory() const { return false; }
    /// Whether the path now leads to another folder, so that reading again may help.
    virtual bool is_gone() const { return false; }
    /// A runtime's message with the user's own paths.
    virtual std::string named(std::string text) const { return text; }

protected:
    virtual std::int64_t size_bytes(const std::string &name) = 0;
    /// Read from `offset`; the number of bytes, 0 at the end.
    virtual std::size_t read_at(const std::string &name, std::int64_t offset, char *buffer, std::size_t size) = 0;

    std::map<std::string, FileEntry> entries_;  ///< the verified files

private:
    std::string content(const std::string &name, std::int64_t size);
    void require_size(const std::string &name, const FileEntry &entry);

    std::string path_;
};

/// Open the folder at `path`. While another process replaces the bundle, this finds the old one or the new one.
std::unique_ptr<Files> open_folder(const std::string &path);
/// Files in memory. The buffers must outlive the result.
std::unique_ptr<Files> files_in_memory(const paraexport_file *files, std::size_t count);
/// Files that functions of the program read.
std::unique_ptr<Files> files_of_reader(const paraexport_reader &reader);

}  // namespace paraexport::core
