// A bundle in memory: the input is its manifest, with a digest that fits. Verifies files, stops before a runtime.
#include <cstdint>
#include <iterator>

#include "bundle/bundle.hpp"
#include "error.hpp"
#include "sealed.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string manifest = sealed({reinterpret_cast<const char *>(data), size});
    const std::string model = "model", golden = "golden", weights = "weights";
    const paraexport_file files[] = {
        {sizeof(paraexport_file), "manifest.json", manifest.data(), manifest.size()},
        {sizeof(paraexport_file), "model.onnx", model.data(), model.size()},
        {sizeof(paraexport_file), "golden.safetensors", golden.data(), golden.size()},
        {sizeof(paraexport_file), "model.first1.onnx", model.data(), model.size()},
        {sizeof(paraexport_file), "model.onnx.data", weights.data(), weights.size()},
    };
    for (const int branches : {0, 1}) {
        try {
            const auto bundle =
                paraexport::core::verified_bundle(paraexport::core::files_in_memory(files, std::size(files)), branches);
            if (bundle.by_path || (bundle.first != 0 && bundle.model_file != "model.first1.onnx")) {
                __builtin_trap();
            }
        } catch (const paraexport::core::Error &) {
        }
    }
    return 0;
}
