/// Checks the types of a JSON value against a table, in the words of the Python package.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

#include "bundle/json.hpp"

namespace paraexport::core {

struct Field;

/// What a value may be. Several kinds may be allowed at once, such as `INT | NIL`.
struct Type {
    enum Kinds : unsigned { BOOL = 1, INT = 2, FLOAT = 4, STR = 8, ARRAY = 16, OBJECT = 32, NIL = 64 };

    unsigned kinds = 0;
    const Type *item = nullptr;     ///< of an array, or of an object whose names are free
    std::size_t length = 0;         ///< of an array; 0 for any
    const Field *fields = nullptr;  ///< of an object; ends with a field without a name
    const char *choices = nullptr;  ///< of a string: the allowed ones, each followed by a space
};

struct Field {
    const char *name = nullptr;
    const Type *type = nullptr;
    bool required = true;
};

/// The first value of a wrong type, as "Expected `int`, got `str` - at `$.max_batch`"; empty if there is none.
std::string type_error(const Json &value, const Type &type);

/// The paths of all fields that the table does not list, such as `preprocessing.rotate`. The types must be right.
std::vector<std::string> unknown_fields(const Json &value, const Type &type);

/// The table of `manifest.json`.
extern const Type MANIFEST_TYPE;

}  // namespace paraexport::core
