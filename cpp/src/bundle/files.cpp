#include "bundle/files.hpp"

#include <algorithm>
#include <vector>

#include "bundle/sha256.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

constexpr std::size_t CHUNK = std::size_t{1} << 20;

Error changed(std::string where, std::string expected, std::string got) {
    return bad_input(
        {"a file of the bundle was changed", std::move(where), std::move(expected), std::move(got), COPY_AGAIN});
}

}  // namespace

std::string Files::content(const std::string &name, std::int64_t size) {
    std::string content(static_cast<std::size_t>(size), '\0');
    std::size_t filled = 0;
    while (filled < content.size()) {
        const std::size_t part =
            read_at(name, static_cast<std::int64_t>(filled), content.data() + filled, content.size() - filled);
        if (part == 0) {
            break;
        }
        filled += part;
    }
    content.resize(filled);
    return content;
}

std::string Files::read_manifest() {
    open(MANIFEST_FILE);
    const std::int64_t size = size_bytes(MANIFEST_FILE), most = MANIFEST_BYTES;
    if (size > most) {
        throw bad_input({"too large",
                         where(MANIFEST_FILE),
                         "at most " + std::to_string(most) + " bytes",
                         std::to_string(size) + " bytes",
                         {}});
    }
    return content(MANIFEST_FILE, size);
}

void Files::require_size(const std::string &name, const FileEntry &entry) {
    open(name);
    if (const std::int64_t size = size_bytes(name); size != entry.size_bytes) {
        throw changed(where(name), std::to_string(entry.size_bytes) + " bytes", std::to_string(size) + " bytes");
    }
}

void Files::verify(const std::string &name, const FileEntry &entry) {
    require_size(name, entry);
    Sha256 hash;
    std::vector<char> buffer(std::min(CHUNK, static_cast<std::size_t>(entry.size_bytes) + 1));
    std::int64_t offset = 0;
    while (const std::size_t part = read_at(name, offset, buffer.data(), buffer.size())) {
        hash.update(buffer.data(), part);
        offset += static_cast<std::int64_t>(part);
    }
    if (const std::string digest = hash.hex(); digest != entry.sha256) {
        throw changed(where(name), "sha256 " + entry.sha256, digest);
    }
    entries_[name] = entry;
}

std::string Files::verified(const std::string &name, const FileEntry &entry) {
    require_size(name, entry);
    std::string bytes = content(name, entry.size_bytes);
    if (const std::string digest = sha256_hex(bytes); digest != entry.sha256) {
        throw changed(where(name), "sha256 " + entry.sha256, digest);
    }
    entries_[name] = entry;
    return bytes;
}

std::string Files::read(const std::string &name) {
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) {
        throw bad_input({"the manifest does not list this file", where(name), {}, {}, COPY_AGAIN});
    }
    if (entry->second.size_bytes > IN_MEMORY_BYTES) {
        throw bad_input({"too large",
                         where(name),
                         "at most " + std::to_string(IN_MEMORY_BYTES) + " bytes",
                         std::to_string(entry->second.size_bytes) + " bytes",
                         {}});
    }
    std::string bytes = content(name, entry->second.size_bytes);
    if (sha256_hex(bytes) != entry->second.sha256) {
        throw changed(where(name), "sha256 " + entry->second.sha256, "other bytes");
    }
    return bytes;
}

}  // namespace paraexport::core
