#include "runtimes/tensorrt/cuda.hpp"

#include "error.hpp"

namespace paraexport::core {
namespace {

constexpr int OUT_OF_MEMORY = 2, NO_DEVICE = 100;
/// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
constexpr int MAJOR = 75, MINOR = 76;

const LibraryNames &library_names() {
    static const LibraryNames names{
        "the NVIDIA driver", "PARAEXPORT_CUDA", {"libcuda"}, {}, "install one, or use a machine with an NVIDIA GPU"};
    return names;
}

}  // namespace

template <typename... Arguments>
void Cuda::call(const char *name, Arguments... arguments) const {
    const int code = library_.function<int (*)(Arguments...)>(name)(arguments...);
    if (code == 0) {
        return;
    }
    if (code == NO_DEVICE) {
        throw missing({"the NVIDIA driver finds no GPU", {}, {}, {}, "check CUDA_VISIBLE_DEVICES"});
    }
    if (code == OUT_OF_MEMORY) {
        throw missing({"the GPU has no memory left", name, {}, {}, "free some, or build with a lower --max-batch"});
    }
    throw missing({"the NVIDIA driver fails with error " + std::to_string(code),
                   name,
                   {},
                   {},
                   "look at nvidia-smi and at the system's log, or update the driver"});
}

Cuda::Cuda() : library_{library_names(), ""} {
    int count = 0, device = 0, major = 0, minor = 0;
    call("cuInit", 0U);
    call("cuDeviceGetCount", &count);
    if (count == 0) {
        throw missing({"the NVIDIA driver finds no GPU", {}, {}, {}, "check CUDA_VISIBLE_DEVICES"});
    }
    call("cuDeviceGet", &device, 0);
    call("cuDeviceGetAttribute", &major, MAJOR, device);
    call("cuDeviceGetAttribute", &minor, MINOR, device);
    capability_ = std::to_string(major) + "." + std::to_string(minor);
    call("cuDevicePrimaryCtxRetain", &context_, device);
}

void Cuda::use() const {
    call("cuCtxSetCurrent", context_);
}

Cuda::Pointer Cuda::allocate(std::size_t size_bytes) const {
    Pointer memory = 0;
    call("cuMemAlloc_v2", &memory, size_bytes);
    return memory;
}

void Cuda::release(Pointer memory) const noexcept {
    library_.function<int (*)(Pointer)>("cuMemFree_v2")(memory);
}

Cuda::Stream Cuda::create_stream() const {
    Stream stream = nullptr;
    call("cuStreamCreate", &stream, 1U);  // CU_STREAM_NON_BLOCKING
    return stream;
}

void Cuda::destroy(Stream stream) const noexcept {
    library_.function<int (*)(Stream)>("cuStreamDestroy_v2")(stream);
}

void Cuda::copy_to_gpu(Pointer to, const void *from, std::size_t size_bytes, Stream stream) const {
    call("cuMemcpyHtoDAsync_v2", to, from, size_bytes, stream);
}

void Cuda::copy_from_gpu(void *to, Pointer from, std::size_t size_bytes, Stream stream) const {
    call("cuMemcpyDtoHAsync_v2", to, from, size_bytes, stream);
}

void Cuda::wait(Stream stream) const {
    call("cuStreamSynchronize", stream);
}

}  // namespace paraexport::core
