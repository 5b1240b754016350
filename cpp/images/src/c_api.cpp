#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>

#include "decode.hpp"
#include "paraexport_images.h"

struct paraexport_image {
    paraexport::images::Decoded decoded;
};

namespace {

using namespace paraexport::images;

constexpr std::uintmax_t MOST_FILE_BYTES = std::uintmax_t{1} << 30;

thread_local char last_error[1024] = "";

void report(const std::string &where, const char *message) noexcept {
    std::snprintf(last_error, sizeof last_error, "%s: %s", where.c_str(), message);
    for (char *letter = last_error; *letter != '\0'; ++letter) {
        if (static_cast<unsigned char>(*letter) < ' ') {
            *letter = '?';  // a name could control a terminal
        }
    }
}

template <typename Call>
paraexport_status guarded(const std::string &where, Call call) noexcept {
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
