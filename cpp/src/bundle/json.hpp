/// A JSON value, and a parser that refuses what a manifest cannot hold.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace paraexport::core {

class Json {
public:
    enum class Kind { null, boolean, integer, real, string, array, object };
    using Member = std::pair<std::string, Json>;

    Kind kind = Kind::null;
    bool boolean = false;
    std::int64_t integer = 0;  ///< an integer beyond 64 bits becomes the nearest one
    double real = 0;           ///< also for integers
    std::string string;
    std::vector<Json> items;
    std::vector<Member> members;  ///< each name once, in the order of the file

    /// The member called `name`, or null if there is none.
    const Json *find(std::string_view name) const;
    /// The name of the kind, in the words of msgspec: `int`, `str`, `array`, …
    const char *kind_name() const;
};

/// Parse UTF-8. If a name is repeated, the last value counts, as in Python.
///
/// Throws std::invalid_argument with the reason for text that is not JSON, numbers that are not finite, more than
/// 64 levels, and more values than any manifest has.
Json parse_json(std::string_view text);

}  // namespace paraexport::core
