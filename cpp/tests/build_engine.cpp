// Compiles an ONNX model with TensorRT-RTX, without a GPU: build_engine MODEL BATCH. It proves that headers and library
// fit together. The library itself only runs engines.
#define nvinfer1 nvinfer1_of_tensorrt_rtx
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "runtimes/library.hpp"

namespace {

class Logger : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char *message) noexcept override {
        if (severity <= Severity::kERROR) {
            std::fprintf(stderr, "%s\n", message);
        }
    }
};

}  // namespace

int main(int argc, char **argv) {
    using paraexport::core::Library;
    if (argc < 3) {
        std::fprintf(stderr, "usage: build_engine MODEL BATCH\n");
        return 2;
    }
    try {
        const Library runtime{
            {"TensorRT-RTX", "PARAEXPORT_TENSORRT_RTX", {"libtensorrt_rtx"}, {"tensorrt_rtx_libs"}, ""}, ""};
        const Library parsers{
            {"its parser", "PARAEXPORT_TENSORRT_RTX", {"libtensorrt_onnxparser_rtx"}, {"tensorrt_rtx_libs"}, ""}, ""};
        Logger logger;
        const std::unique_ptr<nvinfer1::IBuilder> builder{static_cast<nvinfer1::IBuilder *>(
            runtime.function<void *(*)(void *, int)>("createInferBuilder_INTERNAL")(&logger, NV_TENSORRT_VERSION))};
        // TensorRT-RTX always types networks strongly.
        const std::unique_ptr<nvinfer1::INetworkDefinition> network{builder->createNetworkV2(0)};
        const std::unique_ptr<nvonnxparser::IParser> parser{
            static_cast<nvonnxparser::IParser *>(parsers.function<void *(*)(void *, void *, int)>(
                "createNvOnnxParser_INTERNAL")(network.get(), &logger, NV_ONNX_PARSER_VERSION))};
        if (!parser->parseFromFile(argv[1], 1)) {
            return 1;
        }
        const std::unique_ptr<nvinfer1::IBuilderConfig> config{builder->createBuilderConfig()};
        nvinfer1::IOptimizationProfile *profile = builder->createOptimizationProfile();
        const nvinfer1::ITensor *input = network->getInput(0);
        nvinfer1::Dims shape = input->getDimensions();
        for (const auto select : {nvinfer1::OptProfileSelector::kMIN, nvinfer1::OptProfileSelector::kOPT,
                                  nvinfer1::OptProfileSelector::kMAX}) {
            shape.d[0] = select == nvinfer1::OptProfileSelector::kMIN ? 1 : std::atoi(argv[2]);
            profile->setDimensions(input->getName(), select, shape);
        }
        config->addOptimizationProfile(profile);
        const std::unique_ptr<nvinfer1::IHostMemory> plan{builder->buildSerializedNetwork(*network, *config)};
        if (plan == nullptr || plan->size() == 0) {
            return 1;
        }
        std::printf("%zu bytes\n", plan->size());
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
