#include "error.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <iomanip>
#include <locale>
#include <sstream>

#include "utf8.hpp"

namespace paraexport::core {
namespace {

constexpr std::size_t MOST_CHARACTERS = 300;

/// `most` bytes of printable text at most: its start and its end.
std::string shortened(const std::string &text, std::size_t most) {
    if (text.size() <= most) {
        return text;
    }
    const std::string_view mark = "…";
    const std::size_t room = most - mark.size();
    std::size_t end = text.size() - (room - room / 3);
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
        ++end;
    }
    return text.substr(0, whole_characters(text, room / 3)).append(mark).append(text, end);
}

std::string joined(const Message &message) {
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
    return line;
}

/// One printable line. If it is too long, the place and the values are shortened before the cause and the remedy.
std::string line_of(const Message &message) {
    Message parts{printable(message.what), printable(message.where), printable(message.expected),
                  printable(message.got), printable(message.remedy)};
    for (std::string *part : {&parts.where, &parts.expected, &parts.got, &parts.what, &parts.remedy}) {
        if (joined(parts).size() <= MOST_LINE_BYTES) {
            break;
        }
        *part = shortened(*part, MOST_LINE_BYTES / 6);
    }
    return joined(parts);
}

bool reports_lack_of_memory(std::string_view message) {
    std::string lower;
    for (const char letter : message) {
        lower += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    }
    constexpr std::array phrases{"bad_alloc",      "bad allocation",  "out of memory",     "failed to allocate",
                                 "can't allocate", "cannot allocate", "could not allocate"};
    return std::any_of(phrases.begin(), phrases.end(),
                       [&](const char *phrase) { return lower.find(phrase) != std::string::npos; });
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
    escape(text, [&](std::string_view piece) { result += piece; });
    return result;
}

std::string brief(double value, int digits) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream << std::setprecision(digits) << value;
    return stream.str();
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
    if (line.find("Too many open files") != std::string::npos) {
        return missing({std::move(what), std::move(where), {}, "too many open files", MORE_FILES});
    }
    return bad_input(
        {std::move(what), std::move(where), {}, line.substr(0, whole_characters(line, MOST_CHARACTERS)), {}});
}

}  // namespace paraexport::core
