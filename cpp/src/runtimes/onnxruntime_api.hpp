/// ONNX Runtime's C interface, found in the loaded library.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>
#include <mutex>
#include <string>

#include "runtimes/library.hpp"

namespace paraexport::core {

/// One loaded library with its environment. It lives until the process ends.
class OnnxRuntime {
public:
    /// `given` is the path of the library; empty to search for it.
    explicit OnnxRuntime(const std::string &given);

    const OrtApi &api() const { return *api_; }
    const OrtEnv *environment() const { return environment_; }
    const OrtMemoryInfo *memory() const { return memory_; }
    const std::string &version() const { return version_; }
    const std::string &path() const { return library_.path(); }

    /// Throw std::runtime_error with the message of a failed call.
    void check(OrtStatus *status) const;

    /// Whether products of uint8 and int8 saturate on this CPU.
    bool saturates() const {
        std::call_once(probed_, [&] { saturates_ = probe(); });
        return saturates_;
    }

private:
    bool probe() const;

    Library library_;
    std::string version_;
    const OrtApi *api_ = nullptr;
    OrtEnv *environment_ = nullptr;
    OrtMemoryInfo *memory_ = nullptr;
    mutable std::once_flag probed_;
    mutable bool saturates_ = false;
};

/// Releases an object of the interface.
template <typename Object>
class Owner {
public:
    using Release = void(ORT_API_CALL *)(Object *);

    explicit Owner(Release release) : release_{release} {}
    Owner(const Owner &) = delete;
    Owner &operator=(const Owner &) = delete;
    ~Owner() { release_(object_); }

    Object **out() { return &object_; }
    Object *get() const { return object_; }

private:
    Release release_;
    Object *object_ = nullptr;
};

/// A tensor over memory of the caller.
template <typename Number>
void wrap(const OnnxRuntime &runtime, const Number *numbers, std::size_t count, const std::int64_t *shape,
          std::size_t axes, ONNXTensorElementDataType type, Owner<OrtValue> &value) {
    runtime.check(runtime.api().CreateTensorWithDataAsOrtValue(runtime.memory(), const_cast<Number *>(numbers),
                                                               count * sizeof(Number), shape, axes, type, value.out()));
}

/// The library at `given`, opened once for each path.
const OnnxRuntime &loaded_onnxruntime(const std::string &given);

}  // namespace paraexport::core
