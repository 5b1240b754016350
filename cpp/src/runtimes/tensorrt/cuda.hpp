/// NVIDIA's driver, through its own library: memory, streams, and facts about the GPU.
///
/// CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtimes/library.hpp"

namespace paraexport::core {

class Cuda {
public:
    using Pointer = std::uint64_t;  ///< CUdeviceptr
    using Stream = void *;          ///< CUstream

    /// Throws an Error: there is no driver, or no GPU.
    Cuda();

    /// `8.9`.
    const std::string &capability() const { return capability_; }
    /// Make the GPU's primary context current in this thread. TensorRT uses it too.
    void use() const;

    Pointer allocate(std::size_t size_bytes) const;
    void release(Pointer memory) const noexcept;
    Stream create_stream() const;
    void destroy(Stream stream) const noexcept;
    void copy_to_gpu(Pointer to, const void *from, std::size_t size_bytes, Stream stream) const;
    void copy_from_gpu(void *to, Pointer from, std::size_t size_bytes, Stream stream) const;
    /// Wait until all work on the stream is done.
    void wait(Stream stream) const;

private:
    template <typename... Arguments>
    void call(const char *name, Arguments... arguments) const;

    Library library_;
    std::string capability_;
    void *context_ = nullptr;
};

}  // namespace paraexport::core
