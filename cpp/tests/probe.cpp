// Prints whether int8 products of a runtime saturate on this CPU: probe onnxruntime|openvino
#include <cstdio>
#include <exception>
#include <string>

#include "runtimes/session.hpp"

int main(int argc, char **argv) {
    try {
        const bool openvino = argc > 1 && std::string{argv[1]} == "openvino";
        std::puts((openvino ? paraexport::core::openvino_saturates : paraexport::core::onnxruntime_saturates)("") ? "True" : "False");
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
