/// The model with which ONNX Runtime's products of uint8 and int8 are tested.
#pragma once

#include <cstddef>

namespace paraexport::core {

/// An ONNX file: y = MatMulInteger(a, b), uint8 [m, k] times int8 [k, n] -> int32 [m, n].
extern const unsigned char ONNX_PRODUCT[];
extern const std::size_t ONNX_PRODUCT_BYTES;

}  // namespace paraexport::core
