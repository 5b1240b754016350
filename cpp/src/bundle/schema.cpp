#include "bundle/schema.hpp"

#include <array>
#include <string_view>

namespace paraexport::core {
namespace {

bool is_allowed(Json::Kind kind, unsigned kinds) {
    switch (kind) {
        case Json::Kind::null: return (kinds & Type::NIL) != 0;
        case Json::Kind::boolean: return (kinds & Type::BOOL) != 0;
        case Json::Kind::integer: return (kinds & (Type::INT | Type::FLOAT)) != 0;
        case Json::Kind::real: return (kinds & Type::FLOAT) != 0;
        case Json::Kind::string: return (kinds & Type::STR) != 0;
        case Json::Kind::array: return (kinds & Type::ARRAY) != 0;
        case Json::Kind::object: return (kinds & Type::OBJECT) != 0;
    }
    return false;
}

std::string names_of(unsigned kinds) {
    constexpr std::array<const char *, 7> names{"bool", "int", "float", "str", "array", "object", "null"};
    std::string text;
    for (std::size_t bit = 0; bit < names.size(); ++bit) {
        if ((kinds >> bit & 1u) != 0) {
            text += text.empty() ? names[bit] : std::string{" | "} + names[bit];
        }
    }
    return text;
}

const Field *field_of(const Type &type, std::string_view name) {
    for (const Field *field = type.fields; field != nullptr && field->name != nullptr; ++field) {
        if (name == field->name) {
            return field;
        }
    }
    return nullptr;
}

std::string at(const std::string &path) {
    return path == "$" ? "" : " - at `" + path + "`";
}

std::string error_in(const Json &value, const Type &type, const std::string &path);

std::string error_in_object(const Json &value, const Type &type, const std::string &path) {
    for (const auto &[name, member] : value.members) {
        const Field *field = field_of(type, name);
        const Type *member_type = field != nullptr ? field->type : type.item;
        if (member_type != nullptr) {
            const std::string member_path = field != nullptr ? path + "." + name : path + "[...]";
            if (std::string error = error_in(member, *member_type, member_path); !error.empty()) {
                return error;
            }
        }
    }
    for (const Field *field = type.fields; field != nullptr && field->name != nullptr; ++field) {
        if (field->required && value.find(field->name) == nullptr) {
            return "Object missing required field `" + std::string{field->name} + "`" + at(path);
        }
    }
    return {};
}

std::string error_in(const Json &value, const Type &type, const std::string &path) {
    if (!is_allowed(value.kind, type.kinds)) {
        return "Expected `" + names_of(type.kinds) + "`, got `" + value.kind_name() + "`" + at(path);
    }
    if (value.kind == Json::Kind::string && type.choices != nullptr) {
        const std::string padded = " " + std::string{type.choices};
        if (value.string.empty() || value.string.find(' ') != std::string::npos ||
            padded.find(" " + value.string + " ") == std::string::npos) {
            return "Invalid enum value '" + value.string + "'" + at(path);
        }
    }
    if (value.kind == Json::Kind::array) {
        if (type.length != 0 && value.items.size() != type.length) {
            return "Expected `array` of length " + std::to_string(type.length) + ", got " +
                   std::to_string(value.items.size()) + at(path);
        }
        for (std::size_t i = 0; i < value.items.size(); ++i) {
            const std::string item_path = path + "[" + std::to_string(i) + "]";
            if (std::string error = error_in(value.items[i], *type.item, item_path); !error.empty()) {
                return error;
            }
        }
    }
    return value.kind == Json::Kind::object ? error_in_object(value, type, path) : std::string{};
}

void collect_unknown(const Json &value, const Type &type, const std::string &path, std::vector<std::string> &unknown) {
    if (value.kind == Json::Kind::array) {
        for (std::size_t i = 0; i < value.items.size(); ++i) {
            collect_unknown(value.items[i], *type.item, path + std::to_string(i) + ".", unknown);
        }
    }
    for (const auto &[name, member] : value.members) {
        const Field *field = field_of(type, name);
        const Type *member_type = field != nullptr ? field->type : type.item;
        if (member_type == nullptr) {
            unknown.push_back(path + name);
        } else {
            collect_unknown(member, *member_type, path + name + ".", unknown);
        }
    }
}

}  // namespace

std::string type_error(const Json &value, const Type &type) {
    return error_in(value, type, "$");
}

std::vector<std::string> unknown_fields(const Json &value, const Type &type) {
    std::vector<std::string> unknown;
    collect_unknown(value, type, "", unknown);
    return unknown;
}

}  // namespace paraexport::core
