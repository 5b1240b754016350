// Any text as manifest.json, with a digest that fits.
#include <cstdint>

#include "bundle/manifest.hpp"
#include "error.hpp"
#include "sealed.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    try {
        const auto manifest =
            paraexport::core::decode_manifest(sealed({reinterpret_cast<const char *>(data), size}), "a.bundle");
        if (manifest.max_batch == 0 || manifest.labels.empty() || manifest.image_numbers() == 0) {
            __builtin_trap();
        }
    } catch (const paraexport::core::Error &error) {
        if (error.status() != PARAEXPORT_BAD_INPUT) {
            __builtin_trap();
        }
    }
    return 0;
}
