/// Runs `model.engine` with TensorRT or TensorRT-RTX, through the C++ headers that were given at configure time.
///
/// This file is compiled once for each generation of headers. The methods in them are inline calls into tables of the
/// library, and the tables differ between generations; so each gets a namespace of its own. It follows NVIDIA's
/// documents, and has not been run on a GPU yet.
#if defined(PARAEXPORT_TENSORRT_IS_RTX)
#define nvinfer1 nvinfer1_of_tensorrt_rtx
#define PARAEXPORT_OPEN open_tensorrt_rtx
#else
#define nvinfer1 nvinfer1_of_tensorrt
#define PARAEXPORT_OPEN open_tensorrt
#endif

#include <NvInferRuntime.h>

#include <mutex>
#include <stdexcept>

#include "error.hpp"
#include "runtimes/known.hpp"
#include "runtimes/session.hpp"
#include "runtimes/tensorrt/cuda.hpp"
#include "runtimes/tensorrt/engine_info.hpp"

namespace paraexport::core {
namespace {

#if defined(PARAEXPORT_TENSORRT_IS_RTX)
const LibraryNames NAMES{
    "TensorRT-RTX", "PARAEXPORT_TENSORRT_RTX", {"libtensorrt_rtx"}, {"tensorrt_rtx_libs"}, "pip install tensorrt-rtx"};
const Known KNOWN{"tensorrt-rtx", ENGINE_FILE, "GPU"};
#else
const LibraryNames NAMES{"TensorRT", "PARAEXPORT_TENSORRT", {"libnvinfer"}, {"tensorrt_libs"}, "pip install tensorrt"};
const Known KNOWN{"tensorrt", ENGINE_FILE, "GPU"};
#endif

constexpr const char *INFO_FILE = "engine.json";

/// Keeps TensorRT's errors. TensorRT uses one logger in a process.
class Logger : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char *message) noexcept override {
        if (severity <= Severity::kERROR) {
            const std::lock_guard lock{mutex_};
            text_ = text_.substr(0, 1000) + (text_.empty() ? "" : "; ") + message;
        }
    }

    std::string text() const {
        const std::lock_guard lock{mutex_};
        return text_.empty() ? "it gave no reason" : on_one_line(text_);
    }

private:
    mutable std::mutex mutex_;
    std::string text_;
};

std::string version_of(const Library &library) {
    std::string version;
    for (const char *name :
         {"getInferLibMajorVersion", "getInferLibMinorVersion", "getInferLibPatchVersion", "getInferLibBuildVersion"}) {
        version += (version.empty() ? "" : ".") + std::to_string(library.function<int (*)()>(name)());
    }
    return version;
}

TensorInfo describe(const nvinfer1::ICudaEngine &engine, const char *name) {
    const bool is_float = engine.getTensorDataType(name) == nvinfer1::DataType::kFLOAT;
    TensorInfo tensor{name, is_float ? "float32" : "another type", {}};
    const auto shape = engine.getTensorShape(name);
    for (int axis = 0; axis < shape.nbDims; ++axis) {
        tensor.shape.push_back(shape.d[axis]);
    }
    return tensor;
}

/// What one call at a time needs: a context, a stream, and memory for the largest batch.
class Worker {
public:
    Worker(const Cuda &cuda, nvinfer1::ICudaEngine &engine, std::size_t input_bytes, std::size_t output_bytes)
        : cuda_{cuda},
          context_{engine.createExecutionContext()},
          stream_{cuda.create_stream()},
          input_{cuda.allocate(input_bytes)},
          output_{cuda.allocate(output_bytes)} {
        if (context_ == nullptr) {
            throw missing({"TensorRT cannot create an execution context",
                           "the GPU",
                           {},
                           {},
                           "free memory of the GPU, or build with a lower --max-batch"});
        }
    }
    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;
    ~Worker() {
        cuda_.release(input_);
        cuda_.release(output_);
        cuda_.destroy(stream_);
    }

    void run(const TensorInfo &input, const TensorInfo &output, std::size_t profile, const float *images,
             std::size_t count, float *logits) {
        nvinfer1::Dims shape{};
        shape.nbDims = static_cast<int>(input.shape.size());
        std::size_t numbers = count;
        shape.d[0] = static_cast<std::int64_t>(count);
        for (std::size_t axis = 1; axis < input.shape.size(); ++axis) {
            shape.d[axis] = input.shape[axis];
            numbers *= static_cast<std::size_t>(input.shape[axis]);
        }
        const std::size_t outputs = count * static_cast<std::size_t>(output.shape[1]);
        auto *stream = static_cast<cudaStream_t>(stream_);
        cuda_.copy_to_gpu(input_, images, numbers * sizeof(float), stream_);
        const bool started = context_->setOptimizationProfileAsync(static_cast<int>(profile), stream) &&
                             context_->setInputShape(input.name.c_str(), shape) &&
                             context_->setTensorAddress(input.name.c_str(), reinterpret_cast<void *>(input_)) &&
                             context_->setTensorAddress(output.name.c_str(), reinterpret_cast<void *>(output_)) &&
                             context_->enqueueV3(stream);
        if (!started) {
            throw std::runtime_error("TensorRT did not start the model");
        }
        cuda_.copy_from_gpu(logits, output_, outputs * sizeof(float), stream_);
        cuda_.wait(stream_);
    }

private:
    const Cuda &cuda_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    Cuda::Stream stream_;
    Cuda::Pointer input_, output_;
};

class TensorRtSession : public Session {
public:
    TensorRtSession(const SessionRequest &request, Library library, EngineInfo info)
        : library_{std::move(library)}, version_{version_of(library_)}, info_{std::move(info)} {
        const std::string &where = request.bundle.files->path();
        if (const std::string reasons = obstacles(info_, version_, cuda_.capability()); !reasons.empty()) {
            throw missing({std::string{ENGINE_FILE} + " cannot run here: " + reasons,
                           where,
                           {},
                           {},
                           "run it on a machine that it was built for, or build it again for this one"});
        }
        if (info_.stripped) {
            throw missing({"this library does not put weights into a stripped engine",
                           where,
                           {},
                           {},
                           "build the bundle without --engine stripped, or use the Python package"});
        }
        cuda_.use();
        using Create = void *(*)(void *, std::int32_t);
        runtime_.reset(static_cast<nvinfer1::IRuntime *>(
            library_.function<Create>("createInferRuntime_INTERNAL")(&logger_, NV_TENSORRT_VERSION)));
        if (runtime_ == nullptr) {
            throw missing({"TensorRT cannot start", "the GPU", {}, logger_.text(), "update the driver"});
        }
        if (info_.version_compatible) {
            runtime_->setEngineHostCodeAllowed(true);
        }
        engine_.reset(runtime_->deserializeCudaEngine(request.bundle.model.data(), request.bundle.model.size()));
        if (engine_ == nullptr) {
            throw std::runtime_error(logger_.text());
        }
        for (int index = 0; index < engine_->getNbIOTensors(); ++index) {
            const char *name = engine_->getIOTensorName(index);
            const bool is_input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
            (is_input ? inputs_ : outputs_).push_back(describe(*engine_, name));
        }
        const Manifest &facts = request.bundle.manifest;
        input_bytes_ = facts.max_batch * facts.image_numbers() * sizeof(float);
        output_bytes_ = facts.max_batch * facts.labels.size() * sizeof(float);
    }

    void run(const float *images, std::size_t count, float *logits) const override {
        cuda_.use();
        const std::size_t profile = nearest_profile(info_.profiles, count);
        std::unique_ptr<Worker> worker = take();
        worker->run(inputs_[0], outputs_[0], profile, images, count, logits);
        const std::lock_guard lock{mutex_};  // a worker that failed is not used again
        free_.push_back(std::move(worker));
    }

    const std::vector<TensorInfo> &inputs() const override { return inputs_; }
    const std::vector<TensorInfo> &outputs() const override { return outputs_; }
    const std::string &runtime_version() const override { return version_; }
    const std::string &runtime_path() const override { return library_.path(); }

private:
    std::unique_ptr<Worker> take() const {
        {
            const std::lock_guard lock{mutex_};
            if (!free_.empty()) {
                std::unique_ptr<Worker> worker = std::move(free_.back());
                free_.pop_back();
                return worker;
            }
        }
        return std::make_unique<Worker>(cuda_, *engine_, input_bytes_, output_bytes_);
    }

    // The order matters: what stands later is destroyed earlier.
    Library library_;
    std::string version_;
    EngineInfo info_;
    Cuda cuda_;
    Logger logger_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::vector<TensorInfo> inputs_, outputs_;
    std::size_t input_bytes_ = 0, output_bytes_ = 0;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Worker>> free_;
};

}  // namespace

std::unique_ptr<Session> PARAEXPORT_OPEN(const SessionRequest &request) {
    Files &files = *request.bundle.files;
    KNOWN.require(*request.bundle.manifest.runtime, files.path());
    for (const char *name : {ENGINE_FILE, INFO_FILE}) {
        if (!files.has(name)) {
            throw bad_input(
                {"there is no engine", files.path(), std::string{name} + " in it", {}, "build the bundle again"});
        }
    }
    EngineInfo info = parse_engine_info(files.read(INFO_FILE), files.where(INFO_FILE));
    return std::make_unique<TensorRtSession>(request, Library{NAMES, request.library}, std::move(info));
}

}  // namespace paraexport::core
