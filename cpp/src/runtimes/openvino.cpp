/// Runs `model.onnx` with OpenVINO on the CPU, through its C interface.
#include <array>
#include <cstring>
#include <map>
#include <mutex>

#include "error.hpp"
#include "runtimes/known.hpp"
#include "runtimes/onnxruntime_probe.hpp"
#include "runtimes/openvino_api.hpp"
#include "runtimes/openvino_probe.hpp"
#include "runtimes/session.hpp"

namespace paraexport::core {
namespace {

const Known &known() {
    static const Known known{
        "openvino", MODEL_FILE, "CPU", {"INFERENCE_PRECISION_HINT", "PERFORMANCE_HINT", "LP_TRANSFORMS_MODE"}};
    return known;
}

using Tensor = OpenVinoOwner<ov_tensor_t>;
using Port = OpenVinoOwner<ov_output_const_port_t>;
using Request = OpenVinoOwner<ov_infer_request_t>;

/// A tensor over memory of the caller.
Tensor wrap(const OpenVinoApi &api, const float *numbers, std::int64_t axes, std::int64_t *shape) {
    Tensor tensor{api.ov_tensor_free};
    api.check(
        api.ov_tensor_create_from_host_ptr(api.float32(), {axes, shape}, const_cast<float *>(numbers), tensor.out()));
    return tensor;
}

/// A compiled model, with one request for each call that runs at the same time.
class CompiledModel {
public:
    CompiledModel(const OpenVinoApi &api, const ov_core_t *core, const ov_model_t *model, const char *device,
                  const Settings &settings)
        : api_{api}, compiled_{api.ov_compiled_model_free} {
        // The function takes the pairs as variable arguments, and reads as many as `count` says.
        std::array<const char *, 8> words{};
        std::size_t count = 0;
        for (const auto &[name, value] : settings) {
            words.at(count++) = name.c_str();
            words.at(count++) = value.c_str();
        }
        api.check(api.ov_core_compile_model(core, model, device, count, compiled_.out(), words[0], words[1], words[2],
                                            words[3], words[4], words[5], words[6], words[7]));
    }

    const ov_compiled_model_t *get() const { return compiled_.get(); }

    /// Run float32 images, and copy the output, which must have `count` numbers.
    void run(const float *images, std::int64_t axes, std::int64_t *shape, float *output, std::size_t count) const {
        Lease lease{*this};
        const Tensor input = wrap(api_, images, axes, shape);
        api_.check(api_.ov_infer_request_set_input_tensor(lease.request.get(), input.get()));
        api_.check(api_.ov_infer_request_infer(lease.request.get()));
        Tensor result{api_.ov_tensor_free};
        api_.check(api_.ov_infer_request_get_output_tensor(lease.request.get(), result.out()));
        std::size_t bytes = 0;
        void *data = nullptr;
        api_.check(api_.ov_tensor_get_byte_size(result.get(), &bytes));
        api_.check(api_.ov_tensor_data(result.get(), &data));
        if (bytes != count * sizeof(float)) {
            throw std::runtime_error("the model gave " + std::to_string(bytes) + " bytes, expected " +
                                     std::to_string(count * sizeof(float)));
        }
        std::memcpy(output, data, bytes);
    }

private:
    /// Takes a free request, or makes one, and puts it back in the end.
    struct Lease {
        explicit Lease(const CompiledModel &owner) : model{owner}, request{owner.take()} {}
        Lease(const Lease &) = delete;
        Lease &operator=(const Lease &) = delete;
        ~Lease() { model.put_back(std::move(request)); }

        const CompiledModel &model;
        Request request;
    };

    Request take() const {
        {
            const std::lock_guard lock{mutex_};
            if (!free_.empty()) {
                Request request = std::move(free_.back());
                free_.pop_back();
                return request;
            }
        }
        Request request{api_.ov_infer_request_free};
        api_.check(api_.ov_compiled_model_create_infer_request(compiled_.get(), request.out()));
        const std::lock_guard lock{mutex_};
        free_.reserve(++requests_);  // so that `put_back` never allocates
        return request;
    }

    void put_back(Request request) const noexcept {
        const std::lock_guard lock{mutex_};
        free_.push_back(std::move(request));
    }

    const OpenVinoApi &api_;
    OpenVinoOwner<ov_compiled_model_t> compiled_;
    mutable std::mutex mutex_;
    mutable std::vector<Request> free_;
    mutable std::size_t requests_ = 0;
};

/// One loaded library. It lives until the process ends.
class OpenVino {
public:
    explicit OpenVino(const std::string &given) : api{given}, core{api.ov_core_free} {
        api.check(api.ov_core_create(core.out()));
    }

    bool saturates() const {
        std::call_once(probed_, [&] { saturates_ = probe(); });
        return saturates_;
    }

    /// Throw an Error if even a small model cannot be opened, because parts of OpenVINO are not there.
    void require_complete() const {
        try {
            OpenVinoOwner<ov_model_t> model{api.ov_model_free};
            const auto *text = reinterpret_cast<const char *>(ONNX_PRODUCT);
            api.check(api.ov_core_read_model_from_memory_buffer(core.get(), text, ONNX_PRODUCT_BYTES, nullptr,
                                                                model.out()));
            const CompiledModel compiled{api, core.get(), model.get(), "CPU", {}};
        } catch (const std::runtime_error &error) {
            const Error failure = runtime_error("OpenVINO has no CPU", api.path(), error.what());
            if (failure.status() == PARAEXPORT_MISSING) {
                throw failure;
            }
            throw missing({"OpenVINO lacks its plugin for the CPU or for ONNX models",
                           api.path(),
                           {},
                           on_one_line(error.what()),
                           "take the whole folder `libs` of OpenVINO"});
        }
    }

    const OpenVinoApi api;
    OpenVinoOwner<ov_core_t> core;

private:
    bool probe() const {
        std::vector<char> bytes = openvino_product_weights();
        std::vector<float> constants(bytes.size() / sizeof(float));
        std::memcpy(constants.data(), bytes.data(), bytes.size());
        auto size = static_cast<std::int64_t>(constants.size());
        const Tensor weights = wrap(api, constants.data(), 1, &size);
        OpenVinoOwner<ov_model_t> model{api.ov_model_free};
        api.check(api.ov_core_read_model_from_memory_buffer(core.get(), OPENVINO_PRODUCT, std::strlen(OPENVINO_PRODUCT),
                                                            weights.get(), model.out()));
        const CompiledModel compiled{api, core.get(), model.get(), "CPU", {{"INFERENCE_PRECISION_HINT", "f32"}}};
        return SaturationProbe::saturates([&](std::size_t rows) {
            const std::vector<float> images(rows * SaturationProbe::INNER, 255.0F);
            std::vector<float> products(rows * SaturationProbe::COLUMNS);
            std::int64_t shape[] = {static_cast<std::int64_t>(rows), SaturationProbe::INNER};
            compiled.run(images.data(), 2, shape, products.data(), products.size());
            return std::vector<double>(products.begin(), products.end());
        });
    }

    mutable std::once_flag probed_;
    mutable bool saturates_ = false;
};

const OpenVino &loaded(const std::string &given) {
    static std::mutex mutex;
    static auto &all = *new std::map<std::string, std::unique_ptr<OpenVino>>;
    const std::lock_guard lock{mutex};
    std::unique_ptr<OpenVino> &runtime = all[given];
    if (runtime == nullptr) {
        runtime = std::make_unique<OpenVino>(given);
    }
    return *runtime;
}

class OpenVinoSession : public Session {
public:
    OpenVinoSession(const OpenVino &runtime, const SessionRequest &request)
        : api_{runtime.api}, compiled_{compile(runtime, request)} {
        describe(api_.ov_compiled_model_inputs_size, api_.ov_compiled_model_input_by_index, inputs_);
        describe(api_.ov_compiled_model_outputs_size, api_.ov_compiled_model_output_by_index, outputs_);
    }

    void run(const float *images, std::size_t count, float *logits) const override {
        const std::vector<std::int64_t> &image = inputs_[0].shape;
        std::int64_t shape[] = {static_cast<std::int64_t>(count), image[1], image[2], image[3]};
        compiled_.run(images, 4, shape, logits, count * static_cast<std::size_t>(outputs_[0].shape[1]));
    }

    const std::vector<TensorInfo> &inputs() const override { return inputs_; }
    const std::vector<TensorInfo> &outputs() const override { return outputs_; }
    const std::string &runtime_version() const override { return api_.version(); }
    const std::string &runtime_path() const override { return api_.path(); }

private:
    static CompiledModel compile(const OpenVino &runtime, const SessionRequest &request) {
        const OpenVinoApi &api = runtime.api;
        const Bundle &bundle = request.bundle;
        const Runtime &how = *bundle.manifest.runtime;
        OpenVinoOwner<ov_model_t> model{api.ov_model_free};
        if (bundle.by_path) {
            const std::string path = bundle.files->path_for_runtime(bundle.model_file);
            api.check(api.ov_core_read_model(runtime.core.get(), path.c_str(), nullptr, model.out()));
        } else if (!bundle.weights.empty()) {
            throw bad_input({"OpenVINO cannot read weights of a second file from memory",
                             bundle.files->path(),
                             {},
                             WEIGHTS_FILE,
                             "open the bundle from a folder"});
        } else {
            api.check(api.ov_core_read_model_from_memory_buffer(runtime.core.get(), bundle.model.data(),
                                                                bundle.model.size(), nullptr, model.out()));
        }
        const bool saturates = !how.settings_if_int8_saturates.empty() && runtime.saturates();
        Settings settings = how.settings_for(saturates);
        if (request.threads > 0) {
            settings.emplace("INFERENCE_NUM_THREADS", std::to_string(request.threads));
        }
        return {api, runtime.core.get(), model.get(), how.device.c_str(), settings};
    }

    template <typename Count, typename PortAt>
    void describe(Count count_of, PortAt port_at, std::vector<TensorInfo> &tensors) const {
        std::size_t count = 0;
        api_.check(count_of(compiled_.get(), &count));
        for (std::size_t i = 0; i < count; ++i) {
            Port port{api_.ov_output_const_port_free};
            api_.check(port_at(compiled_.get(), i, port.out()));
            char *name = nullptr;
            api_.check(api_.ov_port_get_any_name(port.get(), &name));
            TensorInfo tensor{name, "", {}};
            api_.ov_free(name);
            ov_element_type_e type{};
            api_.check(api_.ov_port_get_element_type(port.get(), &type));
            tensor.dtype = type == api_.float32() ? "float32" : "type " + std::to_string(static_cast<int>(type));
            ov_partial_shape_t shape{};
            api_.check(api_.ov_port_get_partial_shape(port.get(), &shape));
            for (std::int64_t axis = 0; shape.rank.min == shape.rank.max && axis < shape.rank.max; ++axis) {
                const ov_dimension_t &size = shape.dims[axis];
                tensor.shape.push_back(size.min == size.max ? size.min : -1);
            }
            api_.ov_partial_shape_free(&shape);
            tensors.push_back(std::move(tensor));
        }
    }

    const OpenVinoApi &api_;
    CompiledModel compiled_;
    std::vector<TensorInfo> inputs_, outputs_;
};

}  // namespace

bool openvino_saturates(const std::string &library) {
    return loaded(library).saturates();
}

std::unique_ptr<Session> open_openvino(const SessionRequest &request) {
    const Runtime &how = *request.bundle.manifest.runtime;
    known().require(how, request.bundle.files->path());
    const OpenVino &runtime = loaded(request.library);
    require_version(how, runtime.api.version(), request.bundle.files->path());
    try {
        return std::make_unique<OpenVinoSession>(runtime, request);
    } catch (const std::runtime_error &) {
        runtime.require_complete();
        throw;
    }
}

}  // namespace paraexport::core
