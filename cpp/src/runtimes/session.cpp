#include "runtimes/session.hpp"

#include <array>
#include <stdexcept>

#include "bundle/external_data.hpp"
#include "error.hpp"

namespace paraexport::core {
namespace {

struct Target {
    const char *name;
    std::unique_ptr<Session> (*open)(const SessionRequest &);  ///< null if this library does not run it
    const char *remedy;
};

constexpr const char *IN_PYTHON = "use the Python package, or a bundle for another target";

constexpr std::array TARGETS{
#if defined(PARAEXPORT_HAS_ONNXRUNTIME)
    Target{"onnxruntime", open_onnxruntime, nullptr},
#else
    Target{"onnxruntime", nullptr, "configure the library where the headers of ONNX Runtime are"},
#endif
    Target{"onnxruntime-cuda", nullptr, IN_PYTHON},
    Target{"onnxruntime-tensorrt", nullptr, IN_PYTHON},
    Target{"onnxruntime-tensorrt-rtx", nullptr, IN_PYTHON},
#if defined(PARAEXPORT_HAS_OPENVINO)
    Target{"openvino", open_openvino, nullptr},
#else
    Target{"openvino", nullptr, "configure the library where the C headers of OpenVINO are"},
#endif
#if defined(PARAEXPORT_HAS_TENSORRT)
    Target{"tensorrt", open_tensorrt, nullptr},
#else
    Target{"tensorrt", nullptr, "configure the library with -DPARAEXPORT_TENSORRT_INCLUDE=FOLDER, see docs/cpp.md"},
#endif
#if defined(PARAEXPORT_HAS_TENSORRT_RTX)
    Target{"tensorrt-rtx", open_tensorrt_rtx, nullptr},
#else
    Target{"tensorrt-rtx", nullptr,
           "configure the library with -DPARAEXPORT_TENSORRT_RTX_INCLUDE=FOLDER, see docs/cpp.md"},
#endif
};

/// Refuse a model in memory that names other files than the one that was verified.
void require_no_other_files(const Bundle &bundle) {
    if (bundle.by_path || bundle.manifest.runtime->file != MODEL_FILE) {
        return;
    }
    for (const std::string &file : external_files(bundle.model)) {
        if (file != WEIGHTS_FILE || bundle.weights.empty()) {
            throw std::invalid_argument("the model reads weights from the file '" + file +
                                        "', which the manifest does not list");
        }
    }
}

}  // namespace

std::unique_ptr<Session> open_session(const SessionRequest &request) {
    const Manifest &manifest = request.bundle.manifest;
    std::string names;
    for (const Target &target : TARGETS) {
        names += (names.empty() ? "" : ", ") + std::string{target.name};
        if (manifest.target != target.name) {
            continue;
        }
        if (!manifest.runtime) {
            throw bad_input({"format 1 does not record how the model is opened",
                             request.bundle.files->path(),
                             "format 2",
                             {},
                             "build the bundle again, or use the Python package"});
        }
        if (target.open == nullptr) {
            throw missing({"this build of the library does not run the target",
                           "target " + manifest.target,
                           {},
                           {},
                           target.remedy});
        }
        try {
            require_no_other_files(request.bundle);
        } catch (const std::invalid_argument &error) {
            throw std::runtime_error(error.what());
        }
        return target.open(request);
    }
    throw missing({"unknown target", {}, "one of " + names, manifest.target, "correct the name, or update paraexport"});
}

}  // namespace paraexport::core
