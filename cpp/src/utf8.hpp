/// Reads characters of UTF-8 text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace paraexport::core {

struct Character {
    bool valid;
    std::uint32_t code;  ///< the code point, or the damaged byte
    std::size_t length;  ///< bytes, 1 for a damaged byte
};

/// The character that starts at `at`.
inline Character character_at(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t index) -> std::uint32_t {
        return index < text.size() ? static_cast<unsigned char>(text[index]) : 0;
    };
    const std::uint32_t first = byte(at);
    const std::size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 0;
    if (length == 1) {
        return {true, first, 1};
    }
    if (length == 0 || first > 0xF4) {
        return {false, first, 1};
    }
    std::uint32_t code = first & (0x7Fu >> length);
    for (std::size_t next = 1; next < length; ++next) {
        if ((byte(at + next) & 0xC0) != 0x80) {
            return {false, first, 1};
        }
        code = code << 6 | (byte(at + next) & 0x3F);
    }
    const bool shortest = length == 2 || code >= (length == 3 ? 0x800u : 0x10000u);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (!shortest || surrogate || code > 0x10FFFF) {
        return {false, first, 1};
    }
    return {true, code, length};
}

/// Whether the character could control a terminal or break a line.
inline bool is_control(std::uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code <= 0xA0) || (code >= 0x200B && code <= 0x200F) ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF;
}

/// Give the text to `put` in pieces: control characters and damaged bytes become escapes. It needs no memory.
template <typename Put>
void escape(std::string_view text, Put put) {
    for (std::size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        char form[16];
        if (character.valid && !is_control(character.code)) {
            put(text.substr(at, character.length));
        } else if (character.code == '\n' || character.code == '\r' || character.code == '\t') {
            put(character.code == '\n' ? "\\n" : character.code == '\r' ? "\\r" : "\\t");
        } else {
            std::snprintf(form, sizeof form, character.code < 0x100 ? "\\x%02x" : "\\u%04x", character.code);
            put(std::string_view{form});
        }
        at += character.length;
    }
}

/// The most bytes of valid text, up to `most`, that split no character.
inline std::size_t whole_characters(std::string_view text, std::size_t most) {
    std::size_t length = most;
    if (most >= text.size()) {
        return text.size();
    }
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) {
        --length;
    }
    return length;
}

}  // namespace paraexport::core
