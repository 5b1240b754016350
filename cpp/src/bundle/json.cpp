#include "bundle/json.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace paraexport::core {
namespace {

constexpr std::size_t MOST_LEVELS = 64;
// A file of 64 MiB could hold so many that they fill the memory. A manifest with a million labels has a million.
constexpr std::size_t MOST_VALUES = 1 << 22;

/// Receives the parts of a file from the parser, and puts them together.
class Builder : public nlohmann::json_sax<nlohmann::json> {
public:
    Json root;
    std::string reason;

    bool null() override { return put({}); }

    bool boolean(bool value) override {
        Json json;
        json.kind = Json::Kind::boolean;
        json.boolean = value;
        return put(std::move(json));
    }

    bool number_integer(std::int64_t value) override { return put_integer(value, static_cast<double>(value)); }

    bool number_unsigned(std::uint64_t value) override {
        constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
        return put_integer(static_cast<std::int64_t>(std::min(value, most)), static_cast<double>(value));
    }

    bool number_float(double value, const std::string &text) override {
        if (text.find_first_of(".eE") == std::string::npos) {  // an integer beyond 64 bits
            return put_integer(
                value < 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max(), value);
        }
        Json json;
        json.kind = Json::Kind::real;
        json.real = value;
        return put(std::move(json));
    }

    bool string(std::string &value) override {
        Json json;
        json.kind = Json::Kind::string;
        json.string = std::move(value);
        return put(std::move(json));
    }

    bool binary(binary_t & /*value*/) override { return false; }

    bool start_object(std::size_t /*size*/) override { return open(Json::Kind::object); }
    bool start_array(std::size_t /*size*/) override { return open(Json::Kind::array); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(std::string &name) override {
        names_.back() = std::move(name);
        return true;
    }

    bool parse_error(std::size_t place, const std::string & /*token*/,
                     const nlohmann::detail::exception &error) override {
        // nlohmann's messages begin with `[json.exception.parse_error.101] `.
        const std::string message = error.what();
        const std::size_t end = message.find("] ");
        reason = end == std::string::npos ? message : message.substr(end + 2);
        if (reason.find("at line") == std::string::npos) {
            reason += " (char " + std::to_string(place) + ")";
        }
        return false;
    }

private:
    std::vector<Json> open_;
    std::vector<std::string> names_;
    std::size_t values_ = 0;

    bool put_integer(std::int64_t value, double real) {
        Json json;
        json.kind = Json::Kind::integer;
        json.integer = value;
        json.real = real;
        return put(std::move(json));
    }

    bool put(Json value) {
        if (++values_ > MOST_VALUES) {
            reason = "more than " + std::to_string(MOST_VALUES) + " values";
            return false;
        }
        if (open_.empty()) {
            root = std::move(value);
            return true;
        }
        Json &parent = open_.back();
        if (parent.kind == Json::Kind::array) {
            parent.items.push_back(std::move(value));
        } else {
            parent.members.emplace_back(std::move(names_.back()), std::move(value));
        }
        return true;
    }

    bool open(Json::Kind kind) {
        if (open_.size() == MOST_LEVELS) {
            reason = "more than " + std::to_string(MOST_LEVELS) + " levels";
            return false;
        }
        open_.emplace_back().kind = kind;
        names_.emplace_back();
        return true;
    }

    bool close() {
        Json value = std::move(open_.back());
        open_.pop_back();
        names_.pop_back();
        if (value.kind == Json::Kind::object) {
            keep_last(value.members);
        }
        return put(std::move(value));
    }

    /// Keep the last value of each name, at the place of the first, as a Python dict does.
    static void keep_last(std::vector<Json::Member> &members) {
        std::vector<std::size_t> order(members.size());
        for (std::size_t i = 0; i < order.size(); ++i) {
            order[i] = i;
        }
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return members[a].first < members[b].first; });
        std::vector<bool> dropped(members.size());
        std::size_t first = 0;
        for (std::size_t i = 1; i < order.size(); ++i) {
            if (members[order[i]].first != members[order[first]].first) {
                first = i;
                continue;
            }
            members[order[first]].second = std::move(members[order[i]].second);
            dropped[order[i]] = true;
        }
        std::size_t kept = 0;
        for (std::size_t i = 0; i < members.size(); ++i) {
            if (!dropped[i]) {
                if (kept != i) {
                    members[kept] = std::move(members[i]);
                }
                ++kept;
            }
        }
        members.erase(members.begin() + static_cast<std::ptrdiff_t>(kept), members.end());
    }
};

}  // namespace

const Json *Json::find(std::string_view name) const {
    for (const auto &[key, value] : members) {
        if (key == name) {
            return &value;
        }
    }
    return nullptr;
}

const char *Json::kind_name() const {
    switch (kind) {
        case Kind::null: return "null";
        case Kind::boolean: return "bool";
        case Kind::integer: return "int";
        case Kind::real: return "float";
        case Kind::string: return "str";
        case Kind::array: return "array";
        case Kind::object: return "object";
    }
    return "nothing";
}

Json parse_json(std::string_view text) {
    // The parser would take a NUL byte as the end of the text. JSON never has one.
    if (const std::size_t place = text.find('\0'); place != std::string_view::npos) {
        throw std::invalid_argument("a NUL byte (char " + std::to_string(place) + ")");
    }
    Builder builder;
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
        throw std::invalid_argument(builder.reason);
    }
    return std::move(builder.root);
}

}  // namespace paraexport::core
