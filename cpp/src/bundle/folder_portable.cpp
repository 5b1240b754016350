/// Reads a bundle's folder with the C++ library alone, for systems without POSIX. Files are opened once.
#if defined(_WIN32) || defined(PARAEXPORT_PORTABLE_FILES)

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "bundle/files.hpp"
#include "bundle/folder_search.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

namespace fs = std::filesystem;

struct OpenFile {
    std::ifstream stream;
    std::int64_t size_bytes;
    fs::file_time_type modified;
};

class FolderFiles : public Files {
public:
    FolderFiles(const std::string &path, fs::path real) : Files{path}, real_{std::move(real)} {}

    void open(const std::string &name) override {
        if (files_.count(name) == 0) {
            files_.emplace(name, opened(name));
        }
    }

    std::string path_for_runtime(const std::string &name) override { return (real_ / name).string(); }

    void require_no_others() override {
        if (has(WEIGHTS_FILE)) {
            refuse_others(path(), real_, [this](const std::string &name) { return has(name) || name == MANIFEST_FILE; });
        }
    }

    void require_unchanged() override {
        for (const auto &[name, file] : files_) {
            std::error_code failed;
            if (fs::last_write_time(real_ / name, failed) != file.modified || failed) {
                throw ReplacedError{PARAEXPORT_BAD_INPUT,
                                    {"replaced while it was read", path(), {}, {}, "read it again"}};
            }
        }
    }

protected:
    std::int64_t size_bytes(const std::string &name) override { return files_.at(name).size_bytes; }

    std::size_t read_at(const std::string &name, std::int64_t offset, char *buffer, std::size_t size) override {
        std::ifstream &stream = files_.at(name).stream;
        stream.clear();
        stream.seekg(offset);
        stream.read(buffer, static_cast<std::streamsize>(size));
        if (stream.bad()) {
            throw bad_input({"cannot be read", where(name), {}, {}, COPY_AGAIN});
        }
        return static_cast<std::size_t>(stream.gcount());
    }

private:
    OpenFile opened(const std::string &name) {
        if (!is_inside(name)) {
            throw bad_input({"a file outside the bundle", path(), {}, name, COPY_AGAIN});
        }
        std::error_code failed;
        const fs::path file = fs::canonical(real_ / name, failed);
        if (failed) {
            if (name == MANIFEST_FILE) {
                throw bad_input({"not a bundle", path(), std::string{MANIFEST_FILE} + " in it", {}, BUILD_ONE});
            }
            throw bad_input({"a file of the bundle is missing", where(name), {}, {}, COPY_AGAIN});
        }
        if (!fs::is_regular_file(file)) {
            throw bad_input({"not a regular file", where(name), {}, {}, COPY_AGAIN});
        }
        const fs::path folder = fs::canonical(real_);
        if (std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first != folder.end()) {
            throw bad_input({"a link leads out of the bundle", where(name), {}, file.string(), "copy the file itself"});
        }
        std::ifstream stream{file, std::ios::binary};
        if (!stream) {
            throw bad_input({"cannot be read", where(name), {}, {}, COPY_AGAIN});
        }
        return {std::move(stream), static_cast<std::int64_t>(fs::file_size(file)), fs::last_write_time(file)};
    }

    fs::path real_;
    std::map<std::string, OpenFile> files_;
};

}  // namespace

std::unique_ptr<Files> open_folder_at(const std::string &path, const std::string &real) {
    std::error_code failed;
    const fs::file_status status = fs::status(real, failed);
    if (status.type() == fs::file_type::not_found) {
        return nullptr;
    }
    if (failed) {
        throw bad_input({"cannot be read", path, {}, failed.message(), {}});
    }
    if (!fs::is_directory(status)) {
        throw bad_input({"not a bundle", path, "a folder", "a file", BUILD_ONE});
    }
    return std::make_unique<FolderFiles>(path, real);
}

}  // namespace paraexport::core

#endif
