/// A model that a runtime has opened.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"

namespace paraexport::core {

class Session {
public:
    virtual ~Session() = default;

    /// Run one batch: float32 [count, C, H, W] -> float32 [count, classes]. Many threads may call it at once.
    ///
    /// Throws std::runtime_error with the runtime's message.
    virtual void run(const float *images, std::size_t count, float *logits) const = 0;

    virtual const std::vector<TensorInfo> &inputs() const = 0;
    virtual const std::vector<TensorInfo> &outputs() const = 0;
    virtual const std::string &runtime_version() const = 0;
    virtual const std::string &runtime_path() const = 0;
};

struct SessionRequest {
    const Bundle &bundle;
    int threads;          ///< 0 for the runtime's default
    std::string library;  ///< path of the runtime's library; empty to search
};

/// Open the bundle's model with the runtime of its target.
///
/// Throws an Error: a target or setting that is not known, or a runtime that is missing or too old. Throws
/// std::runtime_error with the runtime's message if it refuses the model.
std::unique_ptr<Session> open_session(const SessionRequest &request);

/// Whether the runtime's products of uint8 and int8 saturate on this CPU. `library` is its path; empty to search.
bool onnxruntime_saturates(const std::string &library);
bool openvino_saturates(const std::string &library);

std::unique_ptr<Session> open_onnxruntime(const SessionRequest &request);
std::unique_ptr<Session> open_openvino(const SessionRequest &request);
std::unique_ptr<Session> open_tensorrt(const SessionRequest &request);
std::unique_ptr<Session> open_tensorrt_rtx(const SessionRequest &request);

}  // namespace paraexport::core
