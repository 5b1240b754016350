/// Runs `model.onnx` with ONNX Runtime on the CPU, through its C interface.
#include "error.hpp"
#include "runtimes/known.hpp"
#include "runtimes/onnxruntime_api.hpp"
#include "runtimes/session.hpp"

namespace paraexport::core {
namespace {

constexpr const char *OPTIMIZATION = "graph_optimization_level";

const Known &known() {
    static const Known known{"onnxruntime",
                             MODEL_FILE,
                             "CPUExecutionProvider",
                             {OPTIMIZATION, "session.disable_cpu_ep_fallback", "session.x64quantprecision"}};
    return known;
}

/// The names of NumPy for the types that our models may have.
std::string type_name(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE: return "float64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return "int32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return "uint8";
        default: return "type " + std::to_string(static_cast<int>(type));
    }
}

class OnnxRuntimeSession : public Session {
public:
    OnnxRuntimeSession(const OnnxRuntime &runtime, const SessionRequest &request)
        : runtime_{runtime}, session_{runtime.api().ReleaseSession} {
        create(request);
        const OrtApi &api = runtime_.api();
        describe(api.SessionGetInputCount, api.SessionGetInputName, api.SessionGetInputTypeInfo, inputs_);
        describe(api.SessionGetOutputCount, api.SessionGetOutputName, api.SessionGetOutputTypeInfo, outputs_);
    }

    void run(const float *images, std::size_t count, float *logits) const override {
        const OrtApi &api = runtime_.api();
        const std::vector<std::int64_t> &image = inputs_[0].shape;
        const std::int64_t batch = static_cast<std::int64_t>(count), classes = outputs_[0].shape[1];
        const std::int64_t input_shape[] = {batch, image[1], image[2], image[3]}, output_shape[] = {batch, classes};
        const std::size_t numbers = static_cast<std::size_t>(image[1] * image[2] * image[3]);
        Owner<OrtValue> input{api.ReleaseValue}, output{api.ReleaseValue};
        wrap(runtime_, images, count * numbers, input_shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, input);
        wrap(runtime_, logits, count * static_cast<std::size_t>(classes), output_shape, 2,
             ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, output);
        const char *const input_name = inputs_[0].name.c_str(), *const output_name = outputs_[0].name.c_str();
        const OrtValue *const input_value = input.get();
        OrtValue *output_value = output.get();
        runtime_.check(api.Run(session_.get(), nullptr, &input_name, &input_value, 1, &output_name, 1, &output_value));
    }

    const std::vector<TensorInfo> &inputs() const override { return inputs_; }
    const std::vector<TensorInfo> &outputs() const override { return outputs_; }
    const std::string &runtime_version() const override { return runtime_.version(); }
    const std::string &runtime_path() const override { return runtime_.path(); }

private:
    void create(const SessionRequest &request) {
        const OrtApi &api = runtime_.api();
        const Bundle &bundle = request.bundle;
        Owner<OrtSessionOptions> options{api.ReleaseSessionOptions};
        runtime_.check(api.CreateSessionOptions(options.out()));
        runtime_.check(api.SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_FATAL));
        if (request.threads > 0) {
            runtime_.check(api.SetIntraOpNumThreads(options.get(), request.threads));
        }
        const Runtime &how = *bundle.manifest.runtime;
        const bool saturates = !how.settings_if_int8_saturates.empty() && runtime_.saturates();
        apply(how.settings_for(saturates), options.get(), bundle.files->where(bundle.model_file));
        if (bundle.by_path) {
            const std::string path = bundle.files->path_for_runtime(bundle.model_file);
#if defined(_WIN32)
            const std::wstring wide{path.begin(), path.end()};
            runtime_.check(api.CreateSession(runtime_.environment(), wide.c_str(), options.get(), session_.out()));
#else
            runtime_.check(api.CreateSession(runtime_.environment(), path.c_str(), options.get(), session_.out()));
#endif
            return;
        }
        if (!bundle.weights.empty()) {
            add_weights(bundle, options.get());
        }
        runtime_.check(api.CreateSessionFromArray(runtime_.environment(), bundle.model.data(), bundle.model.size(),
                                                  options.get(), session_.out()));
    }

    void add_weights(const Bundle &bundle, OrtSessionOptions *options) const {
        const std::string file = WEIGHTS_FILE;
        const std::basic_string<ORTCHAR_T> name{file.begin(), file.end()};
        const ORTCHAR_T *const names[] = {name.c_str()};
        char *const contents[] = {const_cast<char *>(bundle.weights.data())};
        const std::size_t sizes[] = {bundle.weights.size()};
        runtime_.check(runtime_.api().AddExternalInitializersFromFilesInMemory(options, names, contents, sizes, 1));
    }

    void apply(const Settings &settings, OrtSessionOptions *options, const std::string &where) const {
        const OrtApi &api = runtime_.api();
        for (const auto &[name, value] : settings) {
            if (name != OPTIMIZATION) {
                runtime_.check(api.AddSessionConfigEntry(options, name.c_str(), value.c_str()));
            } else if (value == "ORT_ENABLE_ALL" || value == "ORT_DISABLE_ALL") {
                runtime_.check(api.SetSessionGraphOptimizationLevel(
                    options, value == "ORT_ENABLE_ALL" ? ORT_ENABLE_ALL : ORT_DISABLE_ALL));
            } else {
                throw bad_input({std::string{"unknown "} + OPTIMIZATION,
                                 where,
                                 "one of ORT_DISABLE_ALL, ORT_ENABLE_ALL",
                                 value,
                                 {}});
            }
        }
    }

    template <typename Count, typename Name, typename Type>
    void describe(Count count_of, Name name_of, Type type_of, std::vector<TensorInfo> &tensors) const {
        const OrtApi &api = runtime_.api();
        OrtAllocator *allocator = nullptr;
        runtime_.check(api.GetAllocatorWithDefaultOptions(&allocator));
        std::size_t count = 0;
        runtime_.check(count_of(session_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            char *name = nullptr;
            runtime_.check(name_of(session_.get(), i, allocator, &name));
            TensorInfo tensor{name, "", {}};
            runtime_.check(api.AllocatorFree(allocator, name));
            Owner<OrtTypeInfo> type{api.ReleaseTypeInfo};
            runtime_.check(type_of(session_.get(), i, type.out()));
            const OrtTensorTypeAndShapeInfo *info = nullptr;
            runtime_.check(api.CastTypeInfoToTensorInfo(type.get(), &info));
            if (info != nullptr) {
                ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
                runtime_.check(api.GetTensorElementType(info, &element));
                std::size_t axes = 0;
                runtime_.check(api.GetDimensionsCount(info, &axes));
                tensor.dtype = type_name(element);
                tensor.shape.resize(axes);
                runtime_.check(api.GetDimensions(info, tensor.shape.data(), axes));
            }
            tensors.push_back(std::move(tensor));
        }
    }

    const OnnxRuntime &runtime_;
    Owner<OrtSession> session_;
    std::vector<TensorInfo> inputs_, outputs_;
};

}  // namespace

bool onnxruntime_saturates(const std::string &library) {
    return loaded_onnxruntime(library).saturates();
}

std::unique_ptr<Session> open_onnxruntime(const SessionRequest &request) {
    const Runtime &how = *request.bundle.manifest.runtime;
    known().require(how, request.bundle.files->path());
    const OnnxRuntime &runtime = loaded_onnxruntime(request.library);
    require_version(how, runtime.version(), request.bundle.files->path());
    return std::make_unique<OnnxRuntimeSession>(runtime, request);
}

}  // namespace paraexport::core
