/// The one exception of the library: a status with a message that names the offender and the remedy.
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

#include "paraexport.h"

namespace paraexport::core {

/// The parts of a message, as in Python: `where: what (expected …, got …); remedy`.
struct Message {
    std::string what;
    std::string where{};
    std::string expected{};
    std::string got{};
    std::string remedy{};
};

class Error : public std::exception {
public:
    Error(paraexport_status status, const Message &message);

    const char *what() const noexcept override { return text_.c_str(); }
    paraexport_status status() const noexcept { return status_; }

private:
    paraexport_status status_;
    std::string text_;
};

/// The folder was replaced while it was read. Reading it again may succeed.
class ReplacedError : public Error {
public:
    using Error::Error;
};

/// A damaged, incomplete or impossible bundle, or other bad input.
Error bad_input(const Message &message);
/// This machine lacks something.
Error missing(const Message &message);

/// The longest line that `paraexport_last_error` holds.
inline constexpr std::size_t MOST_LINE_BYTES = 2047;

/// The remedies for bundles, in the words of the Python package.
inline constexpr const char *COPY_AGAIN = "copy the bundle again, or rebuild it with `paraexport build CKPT -o BUNDLE`";
inline constexpr const char *BUILD_ONE = "make one with `paraexport build CKPT -o BUNDLE`";

inline constexpr const char *MORE_FILES = "close engines or files, or raise the limit with `ulimit -n`";

/// A number with this many digits, as the format `g` writes it, in every locale.
std::string brief(double value, int digits = 6);
/// The text as one line of UTF-8: control characters and damaged bytes become escapes.
std::string printable(std::string_view text);
/// The text with every run of white space as one space.
std::string on_one_line(std::string_view text);

/// Turn a runtime's message into an error: `MISSING` if memory was too little, else bad input.
Error runtime_error(std::string what, std::string where, std::string_view message);

}  // namespace paraexport::core
