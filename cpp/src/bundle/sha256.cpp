#include "bundle/sha256.hpp"

#include <algorithm>
#include <cstring>

#include "bundle/sha256_compress.hpp"

namespace paraexport::core {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
const std::uint32_t SHA256_ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

namespace {

constexpr std::size_t BLOCK = 64;

std::uint32_t turned(std::uint32_t value, int bits) {
    return value >> bits | value << (32 - bits);
}

}  // namespace

void compress_portable(std::uint32_t *state, const unsigned char *blocks, std::size_t count) {
    for (; count > 0; --count, blocks += BLOCK) {
        std::uint32_t words[64];
        for (std::size_t i = 0; i < 16; ++i) {
            const unsigned char *bytes = blocks + 4 * i;
            words[i] = std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 |
                       std::uint32_t{bytes[3]};
        }
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t low = words[i - 15], high = words[i - 2];
            words[i] = words[i - 16] + words[i - 7] + (turned(low, 7) ^ turned(low, 18) ^ low >> 3) +
                       (turned(high, 17) ^ turned(high, 19) ^ high >> 10);
        }
        std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t first =
                h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + SHA256_ROUNDS[i] + words[i];
            const std::uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + first;
            d = c, c = b, b = a, a = first + second;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

// The initial state: fractional parts of the square roots of the first 8 primes.
Sha256::Sha256(bool portable)
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
      compress_{!portable && accelerated() ? compress_x86 : compress_portable} {}

bool Sha256::accelerated() {
    static const bool has = has_sha_instructions();
    return has;
}

void Sha256::update(const void *data, std::size_t size) {
    const auto *bytes = static_cast<const unsigned char *>(data);
    total_ += size;
    if (rest_size_ > 0) {
        const std::size_t part = std::min(size, BLOCK - rest_size_);
        std::memcpy(rest_.data() + rest_size_, bytes, part);
        rest_size_ += part, bytes += part, size -= part;
        if (rest_size_ < BLOCK) {
            return;
        }
        compress_(state_.data(), rest_.data(), 1);
        rest_size_ = 0;
    }
    compress_(state_.data(), bytes, size / BLOCK);
    rest_size_ = size % BLOCK;
    if (rest_size_ > 0) {
        std::memcpy(rest_.data(), bytes + (size - rest_size_), rest_size_);
    }
}

std::string Sha256::hex() {
    const std::uint64_t bits = total_ * 8;
    std::array<unsigned char, 2 * BLOCK> end{};
    std::copy_n(rest_.begin(), rest_size_, end.begin());
    end[rest_size_] = 0x80;
    const std::size_t blocks = rest_size_ < BLOCK - 8 ? 1 : 2;
    for (std::size_t i = 0; i < 8; ++i) {
        end[blocks * BLOCK - 1 - i] = static_cast<unsigned char>(bits >> (8 * i));
    }
    compress_(state_.data(), end.data(), blocks);
    std::string digits;
    for (const std::uint32_t word : state_) {
        for (int shift = 28; shift >= 0; shift -= 4) {
            digits += "0123456789abcdef"[word >> shift & 15];
        }
    }
    return digits;
}

std::string sha256_hex(std::string_view data) {
    Sha256 hash;
    hash.update(data.data(), data.size());
    return hash.hex();
}

}  // namespace paraexport::core
