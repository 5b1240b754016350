// Any bytes as golden.safetensors.
#include <cstdint>

#include "error.hpp"
#include "golden.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    paraexport::core::Manifest manifest;
    manifest.preprocessing.channels = 1;
    manifest.preprocessing.height = 2;
    manifest.preprocessing.width = 2;
    manifest.labels = {"a", "b"};
    for (const int first : {0, 1}) {
        try {
            const auto golden = paraexport::core::parse_golden({reinterpret_cast<const char *>(data), size}, manifest,
                                                               first, "golden.safetensors");
            if (golden.images.size() != golden.count * 4 || golden.logits.size() != golden.count * 2) {
                __builtin_trap();
            }
        } catch (const paraexport::core::Error &) {
        }
    }
    return 0;
}
