/// Reads the safetensors format: 8 bytes with the length of a JSON header, the header, the data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace paraexport::core {

/// One tensor, as a part of the file's bytes.
struct Tensor {
    std::string dtype;  ///< `F32`, `U8`, …
    std::vector<std::size_t> shape;
    std::string_view bytes;

    std::size_t count() const;
    /// `F32 [16, 1, 32, 32]`.
    std::string text() const;
    /// The values of a tensor of `F32`, at any alignment.
    std::vector<float> floats() const;
};

/// The tensors of a file in memory.
///
/// Throws std::invalid_argument with the reason if the file is damaged: a wrong header, or parts that overlap, leave
/// gaps, end elsewhere than the file, or do not fit the shape.
std::map<std::string, Tensor> parse_safetensors(std::string_view file);

}  // namespace paraexport::core
