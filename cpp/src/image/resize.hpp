/// Resizes 8-bit images with the filters of Pillow, to the same bits.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace paraexport::core {

/// uint8 [height, width, channels], contiguous.
struct Picture {
    std::size_t height, width, channels;
    std::vector<unsigned char> bytes;
};

/// A view of such an image.
struct PictureView {
    std::size_t height, width, channels;
    const unsigned char *bytes;
    std::size_t stride;  ///< bytes from one row to the next
};

/// Resize the width first, round to 8 bits, then resize the height. `filter` is `nearest`, `bilinear`, `bicubic` or
/// `lanczos`; all but the first are antialiased.
Picture resized(const PictureView &picture, std::size_t height, std::size_t width, const std::string &filter);

}  // namespace paraexport::core
