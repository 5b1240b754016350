#include <doctest/doctest.h>

#include <stdexcept>

#include "bundle/external_data.hpp"

using paraexport::core::external_files;

namespace {

/// A field with bytes, in the wire format of protobuf.
std::string field(int number, const std::string &content) {
    std::string bytes;
    const unsigned tag = static_cast<unsigned>(number) << 3 | 2;
    for (unsigned rest = tag; rest > 0 || bytes.empty(); rest >>= 7) {
        bytes += static_cast<char>((rest & 0x7F) | (rest >= 0x80 ? 0x80 : 0));
    }
    bytes += static_cast<char>(content.size());
    return bytes + content;
}

std::string tensor_in(const std::string &file) {
    return field(13, field(1, "location") + field(2, file)) + field(13, field(1, "offset") + field(2, "0"));
}

using Names = std::set<std::string>;

}  // namespace

TEST_CASE("a model without other files names none") {
    CHECK(external_files("").empty());
    CHECK(external_files(field(7, field(5, field(9, "raw")))).empty());
}

TEST_CASE("files are found wherever a tensor can be") {
    CHECK(external_files(field(7, field(5, tensor_in("a")))) == Names{"a"});
    CHECK(external_files(field(7, field(5, tensor_in("a")) + field(5, tensor_in("b")))) == Names{"a", "b"});
    CHECK(external_files(field(7, field(15, field(1, tensor_in("a"))))) == Names{"a"});
    const std::string attribute = field(5, field(5, tensor_in("a")));
    CHECK(external_files(field(7, field(1, attribute))) == Names{"a"});
    CHECK(external_files(field(25, field(7, attribute))) == Names{"a"});
    CHECK(external_files(field(7, field(1, field(5, field(6, field(5, tensor_in("a"))))))) == Names{"a"});
    CHECK(external_files(field(20, field(1, field(5, tensor_in("a"))))) == Names{"a"});
}

TEST_CASE("an external tensor without a name counts too") {
    CHECK(external_files(field(7, field(5, "\x70\x01"))) == Names{""});
    CHECK(external_files(field(7, field(5, field(13, "")))) == Names{""});
}

TEST_CASE("what is no protobuf message is refused") {
    for (const char *bytes : {"\x3a\x05", "\xff", "\x3b", "\x39\x01", "\x02\x00"}) {
        CHECK_THROWS_AS(external_files(bytes), std::invalid_argument);
    }
}
