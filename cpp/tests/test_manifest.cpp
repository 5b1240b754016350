#include <doctest/doctest.h>

#include <stdexcept>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"
#include "bundle/schema.hpp"
#include "error.hpp"

using namespace paraexport::core;

TEST_CASE("names of files stay inside the folder") {
    for (const char *name : {"model.onnx", "a/b/c", "..data", "a..", ".hidden"}) {
        CHECK(is_inside(name));
    }
    for (const char *name : {"", "/a", "..", "../a", "a/../b", "a/./b", "./a", "a//b", "a/", "a\\b", "."}) {
        CHECK_FALSE(is_inside(name));
    }
    CHECK_FALSE(is_inside(std::string_view{"a\0b", 3}));
}

TEST_CASE("JSON keeps the last value of a repeated name") {
    const Json json = parse_json(R"({"a": 1, "b": [true, null, "x", 1.5, -7], "a": 2, "a": 3})");
    CHECK(json.members.size() == 2);
    CHECK(json.find("a")->integer == 3);
    CHECK(json.find("b")->items[4].integer == -7);
    CHECK(json.find("c") == nullptr);
    CHECK(std::string{json.kind_name()} == "object");
}

TEST_CASE("whole numbers beyond 64 bits stay whole") {
    const Json json = parse_json("[123456789012345678901234567890, -123456789012345678901234567890, 1e3]");
    CHECK(json.items[0].kind == Json::Kind::integer);
    CHECK(json.items[0].integer == INT64_MAX);
    CHECK(json.items[1].integer == INT64_MIN);
    CHECK(json.items[2].kind == Json::Kind::real);
}

TEST_CASE("what is not JSON is refused") {
    for (const char *text : {"", "{", "[1,]", "nan", "[NaN]", "[1e999]", "\"\\ud800\"", "{\"a\": 1} x", "\"\xff\""}) {
        CAPTURE(text);
        CHECK_THROWS_AS(parse_json(text), std::invalid_argument);
    }
    CHECK_THROWS_AS(parse_json(std::string(65, '[') + std::string(65, ']')), std::invalid_argument);
    CHECK_NOTHROW(parse_json(std::string(64, '[') + std::string(64, ']')));
    CHECK_THROWS_AS(parse_json(std::string(1 << 20, '[')), std::invalid_argument);
}

TEST_CASE("a wrong type is named with its path") {
    CHECK(type_error(parse_json("[]"), MANIFEST_TYPE) == "Expected `object`, got `array`");
    CHECK(type_error(parse_json(R"({"format": "1"})"), MANIFEST_TYPE) == "Expected `int`, got `str` - at `$.format`");
    CHECK(type_error(parse_json(R"({"labels": ["a", 1]})"), MANIFEST_TYPE) ==
          "Expected `str`, got `int` - at `$.labels[1]`");
    CHECK(type_error(parse_json(R"({"versions": {"a": 1}})"), MANIFEST_TYPE) ==
          "Expected `str`, got `int` - at `$.versions[...]`");
    CHECK(type_error(parse_json("{}"), MANIFEST_TYPE) == "Object missing required field `format`");
    CHECK(unknown_fields(parse_json(R"({"source": {"me": 1}, "you": 2})"), MANIFEST_TYPE) ==
          std::vector<std::string>{"source.me", "you"});
}

TEST_CASE("a manifest of a newer format asks for an update") {
    try {
        decode_manifest(R"({"format": 99})", "a.bundle");
        FAIL("it was accepted");
    } catch (const Error &error) {
        CHECK(std::string{error.what()} ==
              "a.bundle: the bundle has a newer format (expected at most 2, got 99); update paraexport");
    }
}
