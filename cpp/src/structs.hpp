/// Reads and writes the structs of the interface, whose first field is the size that the caller knows.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "error.hpp"

namespace paraexport::core {

/// No struct is ever larger. A larger `size` was not set.
inline constexpr std::size_t MOST_STRUCT_BYTES = 4096;

inline void require_struct_size(std::size_t size, const char *name) {
    if (size < sizeof(std::size_t) || size > MOST_STRUCT_BYTES) {
        throw bad_input({std::string{"the field size of "} + name + " is not set",
                         {},
                         "sizeof(" + std::string{name} + ")",
                         std::to_string(size),
                         {}});
    }
}

/// A copy of a struct from the caller. Fields that an older header lacks are zero.
///
/// Throws an Error if the caller's newer header has a field that is used and not known here.
template <typename Struct>
Struct read_struct(const Struct *from, const char *name) {
    if (from == nullptr) {
        throw bad_input({std::string{name} + " is NULL", {}, {}, {}, {}});
    }
    const std::size_t size = from->size;
    require_struct_size(size, name);
    Struct copy{};
    std::memcpy(&copy, from, std::min(size, sizeof copy));
    const auto *bytes = reinterpret_cast<const unsigned char *>(from);
    for (std::size_t i = sizeof copy; i < size; ++i) {
        if (bytes[i] != 0) {
            throw bad_input({std::string{name} + " has a field that this library does not know",
                             {},
                             {},
                             {},
                             "update the library, or compile with its own header"});
        }
    }
    return copy;
}

/// Write the fields that the caller's header has. Fields that are not known here become zero.
template <typename Struct>
void write_struct(const Struct &value, void *to, std::size_t size) {
    Struct copy = value;
    copy.size = size;
    std::memset(to, 0, size);
    std::memcpy(to, &copy, std::min(size, sizeof copy));
}

}  // namespace paraexport::core
