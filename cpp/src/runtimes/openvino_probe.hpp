/// The model with which OpenVINO's products of uint8 and int8 are tested.
#pragma once

#include <string>
#include <vector>

namespace paraexport::core {

/// An OpenVINO IR: float32 [?, 64], quantised to uint8, times a constant of int8 [64, 32].
extern const char OPENVINO_PRODUCT[];

/// The constants of it.
std::vector<char> openvino_product_weights();

}  // namespace paraexport::core
