#include <doctest/doctest.h>

#include <stdexcept>

#include "bundle/safetensors.hpp"

using namespace paraexport::core;

namespace {

std::string file_of(const std::string &header, const std::string &data) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) {
        length[i] = static_cast<char>(header.size() >> (8 * i) & 255);
    }
    return length + header + data;
}

}  // namespace

TEST_CASE("tensors are read") {
    const std::string file = file_of(
        R"({"__metadata__": {"a": "b"}, "x": {"dtype": "U8", "shape": [2, 1], "data_offsets": [0, 2]},
            "y": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}})",
        std::string{"\x01\x02\x00\x00\x80\x3f", 6});
    const auto tensors = parse_safetensors(file);
    CHECK(tensors.size() == 2);
    CHECK(tensors.at("x").text() == "uint8 [2, 1]");
    CHECK(tensors.at("y").floats() == std::vector<float>{1.0F});
}

TEST_CASE("damaged files are refused") {
    const auto tensor = [](const char *shape, const char *offsets, const char *dtype = "U8") {
        return std::string{R"({"x": {"dtype": ")"} + dtype + R"(", "shape": )" + shape + R"(, "data_offsets": )" +
               offsets + "}}";
    };
    CHECK_NOTHROW(parse_safetensors(file_of(tensor("[4]", "[0, 4]"), "abcd")));
    for (const std::string &header :
         {tensor("[5]", "[0, 5]"), tensor("[4]", "[0, 3]"), tensor("[3]", "[0, 3]"), tensor("[3]", "[1, 4]"),
          tensor("[-1]", "[0, 4]"), tensor("[4]", "[4, 0]"), tensor("4", "[0, 4]"), tensor("[4]", "[0]"),
          tensor("[4]", "[0, 4]", "X9"), tensor("[4294967296, 4294967296, 4]", "[0, 4]"), std::string{"[]"},
          std::string{"{"}, std::string{}}) {
        CAPTURE(header);
        CHECK_THROWS_AS(parse_safetensors(file_of(header, "abcd")), std::invalid_argument);
    }
    CHECK_THROWS_AS(parse_safetensors("abc"), std::invalid_argument);
    CHECK_THROWS_AS(parse_safetensors(std::string(8, '\xff')), std::invalid_argument);
}

TEST_CASE("NUL bytes and metadata of another form are refused") {
    const std::string tensor = R"("x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})";
    CHECK_NOTHROW(parse_safetensors(file_of("{" + tensor, "a")));
    CHECK_THROWS_WITH_AS(parse_safetensors(file_of("{" + tensor + std::string(3, '\0'), "a")),
                         doctest::Contains("NUL byte"), std::invalid_argument);
    for (const char *metadata : {"3", "[]", "null", R"({"a": 1})", R"({"a": {}})"}) {
        CAPTURE(metadata);
        const std::string header = std::string{R"({"__metadata__": )"} + metadata + ", " + tensor;
        CHECK_THROWS_WITH_AS(parse_safetensors(file_of(header, "a")),
                             doctest::Contains("__metadata__ is not an object of strings"), std::invalid_argument);
    }
}
