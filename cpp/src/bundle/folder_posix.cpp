/// Opens a bundle's folder once and reads its files through handles, even if their paths change meanwhile.
///
/// The model is read into memory, and the runtime gets exactly these bytes. If the weights are in a second file, the
/// runtime opens both by path. On Linux that path goes through the handle of the folder (`/proc/self/fd/N`), and
/// `require_unchanged` detects a file that was replaced or written to meanwhile.
#if !defined(_WIN32) && !defined(PARAEXPORT_PORTABLE_FILES)

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "bundle/files.hpp"
#include "bundle/folder_search.hpp"
#include "bundle/posix_file.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

struct OpenFile {
    Handle handle;
    struct stat status;
};

class FolderFiles : public Files {
public:
    /// `real` is the current place of the folder that messages call `path`.
    FolderFiles(const std::string &path, const std::string &real, Handle folder)
        : Files{path}, real_{real}, folder_{std::move(folder)} {}

    void open(const std::string &name) override {
        if (files_.count(name) == 0) {
            files_.emplace(name, opened(name));
        }
    }

    std::string path_for_runtime(const std::string &name) override {
        // A later write within the same tick of the clock would not change the file's time.
        for (const std::string &file : {name, std::string{WEIGHTS_FILE}}) {
            if (const auto at = files_.find(file); at != files_.end()) {
                const auto age = std::chrono::system_clock::now().time_since_epoch() - modified(at->second.status);
                if (age >= age.zero() && age < CLOCK_TICK) {
                    std::this_thread::sleep_for(CLOCK_TICK - age);
                }
            }
        }
        return (has_handle_paths() ? folder_.path() : real_) + "/" + name;
    }

    void require_no_others() override {
        if (has(WEIGHTS_FILE)) {
            refuse_others(path(), real_, [this](const std::string &name) { return has(name) || name == MANIFEST_FILE; });
        }
    }

    void require_unchanged() override {
        for (const auto &[name, file] : files_) {
            struct stat now{}, there{};
            if (fstat(file.handle.number(), &now) != 0 || now.st_size != file.status.st_size ||
                modified(now) != modified(file.status)) {
                throw bad_input({"written to while it was read", where(name), {}, {}, COPY_AGAIN});
            }
            if (fstatat(folder_.number(), name.c_str(), &there, 0) != 0 || !same_file(now, there)) {
                throw ReplacedError{PARAEXPORT_BAD_INPUT,
                                    {"replaced while it was read", path(), {}, {}, "read it again"}};
            }
        }
    }

    bool is_gone() const override {
        struct stat here{}, there{};
        return fstat(folder_.number(), &here) != 0 || stat(path().c_str(), &there) != 0 || !same_file(here, there);
    }

    std::string named(std::string text) const override {
        const std::string handle = folder_.path();
        for (std::size_t at = 0; (at = text.find(handle, at)) != std::string::npos;) {
            const std::size_t end = at + handle.size();
            if (end < text.size() && text[end] >= '0' && text[end] <= '9') {
                at = end;
                continue;
            }
            text.replace(at, handle.size(), path());
            at += path().size();
        }
        return text;
    }

protected:
    std::int64_t size_bytes(const std::string &name) override { return files_.at(name).status.st_size; }

    std::size_t read_at(const std::string &name, std::int64_t offset, char *buffer, std::size_t size) override {
        for (;;) {
            const ssize_t part = pread(files_.at(name).handle.number(), buffer, std::min<std::size_t>(size, 1 << 30),
                                       static_cast<off_t>(offset));
            if (part >= 0) {
                return static_cast<std::size_t>(part);
            }
            if (errno != EINTR) {
                throw bad_input({"cannot be read", where(name), {}, reason(errno), COPY_AGAIN});
            }
        }
    }

private:
    OpenFile opened(const std::string &name) {
        if (!is_inside(name)) {
            throw bad_input({"a file outside the bundle", path(), {}, name, COPY_AGAIN});
        }
        struct stat status{};
        if (fstatat(folder_.number(), name.c_str(), &status, 0) != 0) {
            throw cannot_open(name, errno);
        }
        require_regular(name, status);
        // If a pipe has just replaced it, a blocking open would wait for a writer.
        Handle handle{openat(folder_.number(), name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
        if (handle.number() < 0) {
            throw cannot_open(name, errno);
        }
        if (fstat(handle.number(), &status) != 0) {
            throw cannot_open(name, errno);
        }
        require_regular(name, status);
        require_in_folder(name, handle, status);
        return {std::move(handle), status};
    }

    Error cannot_open(const std::string &name, int code) const {
        if (code == ENOENT && name == MANIFEST_FILE) {
            return bad_input({"not a bundle", path(), std::string{MANIFEST_FILE} + " in it", {}, BUILD_ONE});
        }
        if (code == ENOENT) {
            return bad_input({"a file of the bundle is missing", where(name), {}, {}, COPY_AGAIN});
        }
        if (lacks_handles(code)) {
            return missing({"cannot be read", where(name), {}, reason(code), MORE_FILES});
        }
        const std::string got = code == ELOOP ? "a link that leads to itself" : reason(code);
        return bad_input({"cannot be read", where(name), {}, got, COPY_AGAIN});
    }

    void require_regular(const std::string &name, const struct stat &status) const {
        if (!S_ISREG(status.st_mode)) {
            throw bad_input({"not a regular file", where(name), {}, kind_of(status.st_mode), COPY_AGAIN});
        }
    }

    /// Throw if the file is a link, or behind one, that leads out of the folder.
    void require_in_folder(const std::string &name, const Handle &handle, const struct stat &opened) const {
        namespace fs = std::filesystem;
        struct stat entry{};
        const bool direct = name.find('/') == std::string::npos;
        if (direct && fstatat(folder_.number(), name.c_str(), &entry, AT_SYMLINK_NOFOLLOW) == 0 &&
            same_file(entry, opened)) {
            return;  // the folder's own file
        }
        fs::path folder, file, folder_after;
        do {  // until the folder was not renamed in between
            folder = real_folder();
            file = has_handle_paths() ? handle.real_path() : fs::canonical(fs::path{real_} / name);
            folder_after = real_folder();
        } while (folder != folder_after);
        if (std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first != folder.end()) {
            throw bad_input({"a link leads out of the bundle", where(name), {}, file.string(), "copy the file itself"});
        }
    }

    std::filesystem::path real_folder() const {
        return has_handle_paths() ? folder_.real_path() : std::filesystem::canonical(real_);
    }

    std::string real_;
    Handle folder_;
    std::map<std::string, OpenFile> files_;
};

}  // namespace

std::unique_ptr<Files> open_folder_at(const std::string &path, const std::string &real) {
    Handle folder{::open(real.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (folder.number() >= 0) {
        return std::make_unique<FolderFiles>(path, real, std::move(folder));
    }
    const int code = errno;
    if (code == ENOENT) {
        return nullptr;
    }
    if (code == ENOTDIR) {
        throw bad_input({"not a bundle", path, "a folder", "a file", BUILD_ONE});
    }
    if (lacks_handles(code)) {
        throw missing({"cannot be read", path, {}, reason(code), MORE_FILES});
    }
    throw bad_input({"cannot be read", path, {}, reason(code), {}});
}

}  // namespace paraexport::core

#endif
