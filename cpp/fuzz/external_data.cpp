// Any bytes as an ONNX model.
#include <cstdint>
#include <stdexcept>

#include "bundle/external_data.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    try {
        paraexport::core::external_files({reinterpret_cast<const char *>(data), size});
    } catch (const std::invalid_argument &) {
    }
    return 0;
}
