/// Decodes image files in memory.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace paraexport::images {

/// uint8 [height, width, channels], with 1 channel for grey and 3 for RGB.
struct Decoded {
    std::size_t height = 0, width = 0, channels = 0;
    std::vector<unsigned char> bytes{};
};

/// A file that is no image, damaged, too large, or of a kind that is not read here.
class Refused : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws Refused.
Decoded decode(std::string_view file);

Decoded decode_png(std::string_view file);
Decoded decode_jpeg(std::string_view file);

/// Throw Refused for an image that is too large, or far larger than its file.
void require_size(std::size_t width, std::size_t height, std::size_t file_bytes);

[[noreturn]] void refuse_damaged(const std::string &reason);

}  // namespace paraexport::images
