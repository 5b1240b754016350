#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>

#include "decode.hpp"
#include "paraexport_images.h"
#include "utf8.hpp"

struct paraexport_image {
    paraexport::images::Decoded decoded;
};

namespace {

using namespace paraexport::images;

constexpr std::uintmax_t MOST_FILE_BYTES = std::uintmax_t{1} << 30;

thread_local char last_error[1024] = "";

/// The longest path in an error. Of a longer one, the end is shown.
constexpr std::size_t MOST_PATH_BYTES = 512;

/// One line: control characters and damaged bytes become escapes, because a name could control a terminal.
void report(std::string_view where, std::string_view message) noexcept {
    using paraexport::core::escape;
    std::size_t path_bytes = 0, length = 0;
    escape(where, [&](std::string_view piece) { path_bytes += piece.size(); });
    std::size_t left_out = path_bytes > MOST_PATH_BYTES ? path_bytes - MOST_PATH_BYTES : 0;
    bool full = false;
    const auto put = [&](std::string_view piece) {
        full = full || length + piece.size() >= sizeof last_error;
        if (!full) {
            std::memcpy(last_error + length, piece.data(), piece.size());
            length += piece.size();
        }
    };
    if (left_out > 0) {
        put("…");
    }
    escape(where, [&](std::string_view piece) {
        if (left_out == 0) {
            put(piece);
        } else {
            left_out -= std::min(left_out, piece.size());
        }
    });
    put(": ");
    escape(message, put);
    last_error[length] = '\0';
}

template <typename Call>
paraexport_status guarded(const char *where, Call call) noexcept {
    last_error[0] = '\0';
    try {
        call();
        return PARAEXPORT_OK;
    } catch (const Refused &error) {
        report(where, error.what());
        return PARAEXPORT_BAD_INPUT;
    } catch (const std::bad_alloc &) {
        report(where, "there is not enough memory; free memory, or shrink the image");
        return PARAEXPORT_MISSING;
    } catch (const std::exception &error) {
        report(where, error.what());
        return PARAEXPORT_INTERNAL;
    } catch (...) {
        report(where, "an unknown exception");
        return PARAEXPORT_INTERNAL;
    }
}

std::string content_of(const std::filesystem::path &path) {
    std::error_code failed;
    const std::filesystem::file_status status = std::filesystem::status(path, failed);
    if (status.type() == std::filesystem::file_type::not_found) {
        throw Refused("there is no such file; check the path");
    }
    if (!std::filesystem::is_regular_file(status)) {
        throw Refused("not a regular file, expected one image file");
    }
    const std::uintmax_t size = std::filesystem::file_size(path, failed);
    if (failed || size > MOST_FILE_BYTES) {
        throw Refused("the file is too large (expected at most 1 GiB)");
    }
    std::string content(static_cast<std::size_t>(size), '\0');
    std::ifstream stream{path, std::ios::binary};
    if (!stream.read(content.data(), static_cast<std::streamsize>(content.size())) && !content.empty()) {
        throw Refused("cannot be read; check its permissions");
    }
    return content;
}

}  // namespace

extern "C" {

const char *paraexport_image_last_error(void) {
    return last_error;
}

paraexport_status paraexport_image_open(const char *path, paraexport_image **image) {
    return guarded(path == nullptr ? "path" : path, [&] {
        if (path == nullptr || image == nullptr) {
            throw Refused("NULL");
        }
        *image = nullptr;
        *image = new paraexport_image{decode(content_of(path))};
    });
}

paraexport_status paraexport_image_decode(const void *data, size_t size_bytes, paraexport_image **image) {
    return guarded("image", [&] {
        if (data == nullptr || image == nullptr) {
            throw Refused("NULL");
        }
        *image = nullptr;
        *image = new paraexport_image{decode({static_cast<const char *>(data), size_bytes})};
    });
}

paraexport_status paraexport_image_pixels(const paraexport_image *image, paraexport_pixels *pixels) {
    return guarded("pixels", [&] {
        if (image == nullptr || pixels == nullptr) {
            throw Refused("NULL");
        }
        const std::size_t size = pixels->size;
        if (size < offsetof(paraexport_pixels, stride) || size > 4096) {
            throw Refused("the field size of paraexport_pixels is not set");
        }
        const Decoded &decoded = image->decoded;
        paraexport_pixels view{};
        view.size = size;
        view.data = decoded.bytes.data();
        view.height = decoded.height;
        view.width = decoded.width;
        view.channels = decoded.channels;
        view.order = PARAEXPORT_RGB;
        std::memset(pixels, 0, size);
        std::memcpy(pixels, &view, std::min(size, sizeof view));
    });
}

void paraexport_image_close(paraexport_image *image) {
    delete image;
}

}  // extern "C"
