/// The functions of OpenVINO's C interface that are used here, found in the loaded library.
#pragma once

#include <openvino/c/openvino.h>

#include <stdexcept>
#include <string>

#include "runtimes/library.hpp"

namespace paraexport::core {

class OpenVinoApi {
public:
    explicit OpenVinoApi(const std::string &given);

    const std::string &path() const { return library_.path(); }
    const std::string &version() const { return version_; }
    /// The number of float32 in this version of the library; it changed in 2025.
    ov_element_type_e float32() const { return float32_; }

    /// Throw std::runtime_error with the message of a failed call.
    void check(ov_status_e status) const;

private:
    Library library_;

public:
#define PARAEXPORT_OPENVINO_FUNCTION(name) decltype(&::name) name = library_.function<decltype(&::name)>(#name)
    PARAEXPORT_OPENVINO_FUNCTION(ov_get_last_err_msg);
    PARAEXPORT_OPENVINO_FUNCTION(ov_get_openvino_version);
    PARAEXPORT_OPENVINO_FUNCTION(ov_version_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_core_create);
    PARAEXPORT_OPENVINO_FUNCTION(ov_core_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_core_read_model);
    PARAEXPORT_OPENVINO_FUNCTION(ov_core_read_model_from_memory_buffer);
    PARAEXPORT_OPENVINO_FUNCTION(ov_core_compile_model);
    PARAEXPORT_OPENVINO_FUNCTION(ov_model_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_inputs_size);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_outputs_size);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_input_by_index);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_output_by_index);
    PARAEXPORT_OPENVINO_FUNCTION(ov_compiled_model_create_infer_request);
    PARAEXPORT_OPENVINO_FUNCTION(ov_port_get_any_name);
    PARAEXPORT_OPENVINO_FUNCTION(ov_port_get_element_type);
    PARAEXPORT_OPENVINO_FUNCTION(ov_port_get_partial_shape);
    PARAEXPORT_OPENVINO_FUNCTION(ov_partial_shape_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_output_const_port_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_tensor_create);
    PARAEXPORT_OPENVINO_FUNCTION(ov_tensor_create_from_host_ptr);
    PARAEXPORT_OPENVINO_FUNCTION(ov_tensor_get_byte_size);
    PARAEXPORT_OPENVINO_FUNCTION(ov_tensor_data);
    PARAEXPORT_OPENVINO_FUNCTION(ov_tensor_free);
    PARAEXPORT_OPENVINO_FUNCTION(ov_infer_request_set_input_tensor);
    PARAEXPORT_OPENVINO_FUNCTION(ov_infer_request_get_output_tensor);
    PARAEXPORT_OPENVINO_FUNCTION(ov_infer_request_infer);
    PARAEXPORT_OPENVINO_FUNCTION(ov_infer_request_free);
#undef PARAEXPORT_OPENVINO_FUNCTION

private:
    std::string version_;
    ov_element_type_e float32_;
};

/// Releases an object of the interface.
template <typename Object>
class OpenVinoOwner {
public:
    using Release = void (*)(Object *);

    explicit OpenVinoOwner(Release release, Object *object = nullptr) : release_{release}, object_{object} {}
    OpenVinoOwner(OpenVinoOwner &&other) noexcept : release_{other.release_}, object_{other.object_} {
        other.object_ = nullptr;
    }
    OpenVinoOwner &operator=(OpenVinoOwner &&other) noexcept {
        std::swap(release_, other.release_);
        std::swap(object_, other.object_);
        return *this;
    }
    OpenVinoOwner(const OpenVinoOwner &) = delete;
    OpenVinoOwner &operator=(const OpenVinoOwner &) = delete;
    ~OpenVinoOwner() {
        if (object_ != nullptr) {
            release_(object_);
        }
    }

    Object **out() { return &object_; }
    Object *get() const { return object_; }

private:
    Release release_;
    Object *object_;
};

}  // namespace paraexport::core
