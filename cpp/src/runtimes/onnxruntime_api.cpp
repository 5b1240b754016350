#include "runtimes/onnxruntime_api.hpp"

#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include "error.hpp"
#include "runtimes/known.hpp"
#include "runtimes/onnxruntime_probe.hpp"

namespace paraexport::core {
namespace {

/// The oldest version of the interface with all functions used here: ONNX Runtime 1.18.
constexpr std::uint32_t INTERFACE = 18;

std::string refusal(const Library &library) {
    if (!library.has("OrtGetApiBase")) {
        return "not ONNX Runtime; it has no function OrtGetApiBase";
    }
    const std::string version = library.function<const OrtApiBase *(*)()>("OrtGetApiBase")()->GetVersionString();
    return is_older(version, "1.18") ? "too old; 1.18 or later is needed, and this is " + version : "";
}

const LibraryNames &library_names() {
    static const LibraryNames names{"ONNX Runtime",
                                    "PARAEXPORT_ONNXRUNTIME",
                                    {"libonnxruntime"},
                                    {"onnxruntime/capi"},
                                    "install ONNX Runtime (`pip install onnxruntime`, or its archive from GitHub)",
                                    refusal};
    return names;
}

}  // namespace

OnnxRuntime::OnnxRuntime(const std::string &given) : library_{library_names(), given} {
    const auto *base = library_.function<const OrtApiBase *(*)()>("OrtGetApiBase")();
    version_ = base->GetVersionString();
    api_ = base->GetApi(INTERFACE);
    if (api_ == nullptr) {
        throw missing(
            {"ONNX Runtime is too old", library_.path(), "1.18 or later", version_, "pip install -U onnxruntime"});
    }
    check(api_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "paraexport", &environment_));
    check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
}

void OnnxRuntime::check(OrtStatus *status) const {
    if (status != nullptr) {
        const std::string message = api_->GetErrorMessage(status);
        api_->ReleaseStatus(status);
        throw std::runtime_error(message);
    }
}

bool OnnxRuntime::probe() const {
    Owner<OrtSessionOptions> options{api_->ReleaseSessionOptions};
    Owner<OrtSession> session{api_->ReleaseSession};
    check(api_->CreateSessionOptions(options.out()));
    check(api_->CreateSessionFromArray(environment_, ONNX_PRODUCT, ONNX_PRODUCT_BYTES, options.get(), session.out()));
    const std::vector<std::int8_t> weight = SaturationProbe::weight();
    constexpr std::size_t inner = SaturationProbe::INNER, columns = SaturationProbe::COLUMNS;
    return SaturationProbe::saturates([&](std::size_t rows) {
        const std::vector<std::uint8_t> images(rows * inner, 255);
        std::vector<std::int32_t> products(rows * columns);
        const std::int64_t shapes[3][2] = {
            {static_cast<std::int64_t>(rows), inner}, {inner, columns}, {static_cast<std::int64_t>(rows), columns}};
        Owner<OrtValue> image{api_->ReleaseValue}, constant{api_->ReleaseValue}, product{api_->ReleaseValue};
        wrap(*this, images.data(), images.size(), shapes[0], 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, image);
        wrap(*this, weight.data(), weight.size(), shapes[1], 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, constant);
        wrap(*this, products.data(), products.size(), shapes[2], 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, product);
        const char *inputs[] = {"a", "b"}, *outputs[] = {"y"};
        const OrtValue *values[] = {image.get(), constant.get()};
        OrtValue *results[] = {product.get()};
        check(api_->Run(session.get(), nullptr, inputs, values, 2, outputs, 1, results));
        return std::vector<double>(products.begin(), products.end());
    });
}

const OnnxRuntime &loaded_onnxruntime(const std::string &given) {
    static std::mutex mutex;
    static auto &all = *new std::map<std::string, std::unique_ptr<OnnxRuntime>>;
    const std::lock_guard lock{mutex};
    std::unique_ptr<OnnxRuntime> &runtime = all[given];
    if (runtime == nullptr) {
        runtime = std::make_unique<OnnxRuntime>(given);
    }
    return *runtime;
}

}  // namespace paraexport::core
