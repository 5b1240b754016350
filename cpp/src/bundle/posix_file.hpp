/// An open file of a POSIX system, and facts about files.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace paraexport::core {

/// Whether a path leads to an open file. A system without `/proc` has no such paths.
inline bool has_handle_paths() {
#if defined(__linux__)
    static const bool exists = access("/proc/self/fd", F_OK) == 0;
    return exists;
#else
    return false;
#endif
}

/// A file system may give the same time to two writes within this interval.
inline constexpr std::chrono::milliseconds CLOCK_TICK{20};

inline std::string reason(int code) {
    return std::generic_category().message(code);
}

/// Whether no more files can be open, which is no fault of the file.
inline bool lacks_handles(int code) {
    return code == EMFILE || code == ENFILE;
}

inline const char *kind_of(mode_t mode) {
    if (S_ISDIR(mode)) {
        return "a folder";
    }
    if (S_ISFIFO(mode)) {
        return "a pipe";
    }
    if (S_ISSOCK(mode)) {
        return "a socket";
    }
    return "a device";
}

inline std::chrono::nanoseconds modified(const struct stat &status) {
#if defined(__APPLE__)
    const timespec &time = status.st_mtimespec;
#else
    const timespec &time = status.st_mtim;
#endif
    return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
}

inline bool same_file(const struct stat &one, const struct stat &other) {
    return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

class Handle {
public:
    explicit Handle(int number = -1) : number_{number} {}
    Handle(Handle &&other) noexcept : number_{other.number_} { other.number_ = -1; }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    Handle &operator=(Handle &&) = delete;
    ~Handle() {
        if (number_ >= 0) {
            close(number_);
        }
    }
    int number() const { return number_; }
    std::string path() const { return "/proc/self/fd/" + std::to_string(number_); }

    /// The current path of the open file.
    std::filesystem::path real_path() const {
        std::string target = std::filesystem::read_symlink(path()).string();
        constexpr std::string_view removed = " (deleted)";
        if (target.size() > removed.size() && target.substr(target.size() - removed.size()) == removed) {
            target.resize(target.size() - removed.size());
        }
        return target;
    }

private:
    int number_;
};

}  // namespace paraexport::core
