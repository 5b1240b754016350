#include "runtimes/openvino_api.hpp"

namespace paraexport::core {
namespace {

std::string refusal(const Library &library) {
    const bool known = library.has("ov_get_openvino_version");
    return known ? "" : "not the C library of OpenVINO; it has no function ov_get_openvino_version";
}

const LibraryNames &library_names() {
    static const LibraryNames names{"OpenVINO",
                                    "PARAEXPORT_OPENVINO",
                                    {"libopenvino_c"},
                                    {"openvino/libs"},
                                    "install OpenVINO (`pip install openvino`, or its archive)",
                                    refusal};
    return names;
}

/// The number of float32: 4 in the enumeration of today, and 5 in the older one, where 4 is half.
ov_element_type_e number_of_float32(const OpenVinoApi &api) {
    std::int64_t one = 1;
    OpenVinoOwner<ov_tensor_t> tensor{api.ov_tensor_free};
    api.check(api.ov_tensor_create(static_cast<ov_element_type_e>(4), {1, &one}, tensor.out()));
    std::size_t bytes = 0;
    api.check(api.ov_tensor_get_byte_size(tensor.get(), &bytes));
    return static_cast<ov_element_type_e>(bytes == sizeof(float) ? 4 : 5);
}

}  // namespace

OpenVinoApi::OpenVinoApi(const std::string &given) : library_{library_names(), given} {
    ov_version_t version{};
    check(ov_get_openvino_version(&version));
    version_ = version.buildNumber == nullptr ? "" : version.buildNumber;
    version_ = version_.substr(0, version_.find('-'));
    ov_version_free(&version);
    float32_ = number_of_float32(*this);
}

void OpenVinoApi::check(ov_status_e status) const {
    if (status != 0) {
        const char *message = ov_get_last_err_msg();
        throw std::runtime_error(message == nullptr || message[0] == '\0'
                                     ? "OpenVINO returned status " + std::to_string(static_cast<int>(status))
                                     : message);
    }
}

}  // namespace paraexport::core
