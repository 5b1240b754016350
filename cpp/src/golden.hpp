/// The golden data of a bundle: images, raw and prepared, with PyTorch's answers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bundle/manifest.hpp"

namespace paraexport::core {

/// An image before and after preprocessing.
struct RawImage {
    std::size_t height, width;
    std::vector<unsigned char> pixels;  ///< [H, W, C]
    std::vector<float> prepared;        ///< [C, h, w]
};

struct Golden {
    std::size_t count;
    std::vector<float> images;  ///< [count, C, h, w], with those of `raw` at the end
    std::vector<float> logits;  ///< [count, classes], of the chosen number of branches
    std::vector<RawImage> raw;
};

/// Decode `golden.safetensors`, with the logits of the first `first` branches; 0 for all. `where` is its path, for
/// messages.
Golden parse_golden(std::string_view content, const Manifest &manifest, std::int64_t first, const std::string &where);

}  // namespace paraexport::core
