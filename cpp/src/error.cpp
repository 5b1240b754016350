#include "error.hpp"

#include <array>
#include <cctype>
#include <cstdio>

#include "utf8.hpp"

namespace paraexport::core {
namespace {

constexpr std::size_t MOST_CHARACTERS = 300;

std::string line_of(const Message &message) {
    std::string line = message.where.empty() ? message.what : message.where + ": " + message.what;
    if (!message.expected.empty() || !message.got.empty()) {
        line += " (";
        if (!message.expected.empty()) {
            line += "expected " + message.expected;
        }
        if (!message.got.empty()) {
            line += message.expected.empty() ? "got " : ", got ";
            line += message.got;
        }
        line += ')';
    }
    if (!message.remedy.empty()) {
        line += "; " + message.remedy;
    }
    return printable(line);
}

bool reports_lack_of_memory(std::string_view message) {
    std::string lower;
    for (const char letter : message) {
        lower += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    }
    constexpr std::array phrases{"bad_alloc",      "bad allocation",  "out of memory",     "failed to allocate",
                                 "can't allocate", "cannot allocate", "could not allocate"};
    for (const char *phrase : phrases) {
        if (lower.find(phrase) != std::string::npos) {
            return true;
        }
    }
    return false;
}

}  // namespace

Error::Error(paraexport_status status, const Message &message) : status_{status}, text_{line_of(message)} {}

Error bad_input(const Message &message) {
    return {PARAEXPORT_BAD_INPUT, message};
}

Error missing(const Message &message) {
    return {PARAEXPORT_MISSING, message};
}

std::string printable(std::string_view text) {
    std::string result;
    std::array<char, 16> escape{};
    for (std::size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        if (!character.valid) {
            std::snprintf(escape.data(), escape.size(), "\\x%02x", character.code);
            result += escape.data();
        } else if (is_control(character.code)) {
            const char *form = character.code < 0x100 ? "\\x%02x" : "\\u%04x";
            switch (character.code) {
                case '\n': result += "\\n"; break;
                case '\r': result += "\\r"; break;
                case '\t': result += "\\t"; break;
                default: std::snprintf(escape.data(), escape.size(), form, character.code); result += escape.data();
            }
        } else {
            result += text.substr(at, character.length);
        }
        at += character.length;
    }
    return result;
}

std::string on_one_line(std::string_view text) {
    std::string result;
    for (const char letter : text) {
        if (std::isspace(static_cast<unsigned char>(letter)) == 0) {
            result += letter;
        } else if (!result.empty() && result.back() != ' ') {
            result += ' ';
        }
    }
    if (!result.empty() && result.back() == ' ') {
        result.pop_back();
    }
    return result;
}

Error runtime_error(std::string what, std::string where, std::string_view message) {
    const std::string line = on_one_line(message);
    if (reports_lack_of_memory(line)) {
        const std::size_t start = line.size() > MOST_CHARACTERS ? line.size() - MOST_CHARACTERS : 0;
        return missing({"there is not enough memory",
                        std::move(where),
                        {},
                        line.substr(start),
                        "free memory, or build with a lower --max-batch"});
    }
    return bad_input({std::move(what), std::move(where), {}, line.substr(0, MOST_CHARACTERS), {}});
}

}  // namespace paraexport::core
