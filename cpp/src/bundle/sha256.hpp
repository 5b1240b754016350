/// SHA-256 (FIPS 180-4). It uses the SHA instructions of x86 CPUs that have them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace paraexport::core {

class Sha256 {
public:
    /// `portable` leaves out special instructions, for tests.
    explicit Sha256(bool portable = false);

    void update(const void *data, std::size_t size);
    /// The digest as 64 hex digits. Call it once, at the end.
    std::string hex();

    /// Whether this CPU has instructions for it.
    static bool accelerated();

private:
    using Compress = void (*)(std::uint32_t *state, const unsigned char *blocks, std::size_t count);

    std::array<std::uint32_t, 8> state_;
    std::array<unsigned char, 64> rest_{};
    std::size_t rest_size_ = 0;
    std::uint64_t total_ = 0;
    Compress compress_;
};

std::string sha256_hex(std::string_view data);

}  // namespace paraexport::core
