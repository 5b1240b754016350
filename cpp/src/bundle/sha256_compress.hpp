/// The compression function of SHA-256, portable and with SHA instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace paraexport::core {

extern const std::uint32_t SHA256_ROUNDS[64];

void compress_portable(std::uint32_t *state, const unsigned char *blocks, std::size_t count);
/// Call it only if `has_sha_instructions()`.
void compress_x86(std::uint32_t *state, const unsigned char *blocks, std::size_t count);
bool has_sha_instructions();

}  // namespace paraexport::core
