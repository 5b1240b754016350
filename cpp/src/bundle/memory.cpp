/// Bundles whose files a program holds in memory, or reads by its own functions.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "bundle/files.hpp"
#include "error.hpp"
#include "structs.hpp"

namespace paraexport::core {
namespace {

Error missing_file(const std::string &where, const std::string &name) {
    if (name == MANIFEST_FILE) {
        return bad_input({"not a bundle", where, std::string{MANIFEST_FILE} + " in it", {}, BUILD_ONE});
    }
    return bad_input({"a file of the bundle is missing", where + "/" + name, {}, {}, COPY_AGAIN});
}

void require_possible(std::size_t size, const std::string &where) {
    if (size > static_cast<std::size_t>(PTRDIFF_MAX)) {
        throw bad_input({"no file has this size",
                         where,
                         "at most " + std::to_string(PTRDIFF_MAX) + " bytes",
                         std::to_string(size) + " bytes",
                         {}});
    }
}

class MemoryFiles : public Files {
public:
    MemoryFiles(const paraexport_file *files, std::size_t count) : Files{"the bundle in memory"} {
        const std::size_t size = files->size;
        if (size % alignof(paraexport_file) != 0) {
            throw bad_input({"the field size of paraexport_file is not set",
                             {},
                             "a multiple of " + std::to_string(alignof(paraexport_file)),
                             std::to_string(size),
                             {}});
        }
        const auto *place = reinterpret_cast<const char *>(files);
        for (std::size_t i = 0; i < count; ++i, place += size) {
            const auto *element = reinterpret_cast<const paraexport_file *>(place);
            if (element->size != size) {
                throw bad_input({"the files have different fields size", "file " + std::to_string(i),
                                 std::to_string(size), std::to_string(element->size), "set it for every file"});
            }
            const paraexport_file file = read_struct(element, "paraexport_file");
            if (file.name == nullptr || (file.data == nullptr && file.size_bytes > 0)) {
                throw bad_input({"a file in memory has no name or no data", "file " + std::to_string(i), {}, {}, {}});
            }
            require_possible(file.size_bytes, where(file.name));
            if (!contents_.emplace(file.name, std::string_view{static_cast<const char *>(file.data), file.size_bytes})
                     .second) {
                throw bad_input({"two files have one name", where(file.name), {}, {}, "give each file once"});
            }
        }
    }

    bool in_memory() const override { return true; }

    void open(const std::string &name) override {
        if (contents_.count(name) == 0) {
            throw missing_file(path(), name);
        }
    }

protected:
    std::int64_t size_bytes(const std::string &name) override {
        return static_cast<std::int64_t>(contents_.at(name).size());
    }

    std::size_t read_at(const std::string &name, std::int64_t offset, char *buffer, std::size_t size) override {
        const std::string_view rest = contents_.at(name).substr(static_cast<std::size_t>(offset));
        const std::size_t part = std::min(size, rest.size());
        if (part > 0) {
            std::memcpy(buffer, rest.data(), part);
        }
        return part;
    }

private:
    std::map<std::string, std::string_view> contents_;
};

class ReaderFiles : public Files {
public:
    explicit ReaderFiles(const paraexport_reader &reader) : Files{"the bundle"}, reader_{reader} {}

    bool in_memory() const override { return true; }

    void open(const std::string &name) override {
        std::size_t size = 0;
        if (sizes_.count(name) == 0) {
            if (reader_.find(reader_.context, name.c_str(), &size) != 0) {
                throw missing_file(path(), name);
            }
            require_possible(size, where(name));
            sizes_[name] = size;
        }
    }

protected:
    std::int64_t size_bytes(const std::string &name) override { return static_cast<std::int64_t>(sizes_.at(name)); }

    std::size_t read_at(const std::string &name, std::int64_t offset, char *buffer, std::size_t size) override {
        const auto start = static_cast<std::size_t>(offset);
        const std::size_t part = std::min(size, sizes_.at(name) - start);
        if (part > 0 && reader_.read(reader_.context, name.c_str(), start, buffer, part) != 0) {
            throw bad_input({"cannot be read", where(name), {}, "the reader of the program failed", {}});
        }
        return part;
    }

private:
    paraexport_reader reader_;
    std::map<std::string, std::size_t> sizes_;
};

}  // namespace

std::unique_ptr<Files> files_in_memory(const paraexport_file *files, std::size_t count) {
    return std::make_unique<MemoryFiles>(files, count);
}

std::unique_ptr<Files> files_of_reader(const paraexport_reader &reader) {
    return std::make_unique<ReaderFiles>(reader);
}

}  // namespace paraexport::core
