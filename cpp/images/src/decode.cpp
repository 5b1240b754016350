#include "decode.hpp"

#include <cstdio>

namespace paraexport::images {
namespace {

/// The limits of the Python package (`paraexport/images/preprocess.py`).
constexpr std::size_t MOST_PIXELS = 89478485, LARGE_PIXELS = std::size_t{1} << 24, PIXELS_PER_BYTE = 10000;

std::string first_bytes(std::string_view file) {
    std::string text;
    for (const char letter : file.substr(0, 8)) {
        char hex[4];
        std::snprintf(hex, sizeof hex, "%02x ", static_cast<unsigned>(static_cast<unsigned char>(letter)));
        text += hex;
    }
    return text.substr(0, text.empty() ? 0 : text.size() - 1);
}

}  // namespace

Decoded decode(std::string_view file) {
    if (file.empty()) {
        throw Refused("the file is empty (got 0 bytes); copy or download it again");
    }
    if (file.substr(0, 8) == std::string_view{"\x89PNG\r\n\x1a\n", 8}) {
        return decode_png(file);
    }
    if (file.substr(0, 2) == "\xff\xd8") {
        return decode_jpeg(file);
    }
    throw Refused("not an image that is read here (expected PNG or JPEG, got a file that starts with " +
                  first_bytes(file) + "); convert it, or decode it in the program and give its pixels");
}

void require_size(std::size_t width, std::size_t height, std::size_t file_bytes) {
    if (width == 0 || height == 0) {
        throw Refused("the image has no pixels");
    }
    const std::size_t pixels = width * height;
    if (height > MOST_PIXELS / width) {
        throw Refused("the image is too large to open safely (expected at most " + std::to_string(MOST_PIXELS) +
                      " pixels, got " + std::to_string(width) + "x" + std::to_string(height) + "); shrink it");
    }
    if (pixels > LARGE_PIXELS && pixels > PIXELS_PER_BYTE * file_bytes) {
        throw Refused("the image is far larger than its file (expected at most " + std::to_string(PIXELS_PER_BYTE) +
                      " pixels for each byte, got " + std::to_string(pixels) + " pixels in " +
                      std::to_string(file_bytes) + " bytes); shrink it, or leave it out");
    }
}

void refuse_damaged(const std::string &reason) {
    throw Refused("the image is truncated or damaged (got " + reason + "); copy or download it again");
}

}  // namespace paraexport::images
