#include <doctest/doctest.h>

#include "error.hpp"

using namespace paraexport::core;

TEST_CASE("a message has all its parts on one line") {
    const Error error = bad_input({"too large", "a.bundle/x", "at most 3", "4", "shrink it"});
    CHECK(std::string{error.what()} == "a.bundle/x: too large (expected at most 3, got 4); shrink it");
    CHECK(error.status() == PARAEXPORT_BAD_INPUT);
    CHECK(std::string{missing({"gone", {}, {}, "nothing", {}}).what()} == "gone (got nothing)");
}

TEST_CASE("control characters and damaged UTF-8 become escapes") {
    CHECK(printable("a\nb\x1b[0m\x7f") == "a\\nb\\x1b[0m\\x7f");
    CHECK(printable("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80") == "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    CHECK(printable("\xff\xc3(\xed\xa0\x80\xc0\xaf") == "\\xff\\xc3(\\xed\\xa0\\x80\\xc0\\xaf");
    CHECK(printable("\xe2\x80\xa8") == "\\u2028");
    CHECK(printable("\xe2\x82") == "\\xe2\\x82");
}

TEST_CASE("lack of memory is another kind of error than a failure") {
    CHECK(runtime_error("failed", "x", "std::bad_alloc").status() == PARAEXPORT_MISSING);
    CHECK(runtime_error("failed", "x", "Failed to allocate memory").status() == PARAEXPORT_MISSING);
    CHECK(runtime_error("failed", "x", "wrong  shape\n").status() == PARAEXPORT_BAD_INPUT);
    CHECK(std::string{runtime_error("failed", "x", "wrong  shape\n").what()} == "x: failed (got wrong shape)");
}

TEST_CASE("a long path is shortened, and the cause and the remedy stay") {
    std::string path;
    for (int i = 0; i < 4000; ++i) {
        path += "é";
    }
    const std::string text = bad_input({"too large", path, "at most 3", "4", "shrink it"}).what();
    CHECK(text.size() <= MOST_LINE_BYTES);
    CHECK(text.find("é: too large (expected at most 3, got 4); shrink it") != std::string::npos);
    CHECK(printable(text) == text);
    const std::string long_reason = runtime_error("failed", "x", "y" + path).what();
    CHECK(long_reason.find("\\x") == std::string::npos);
}

TEST_CASE("too many open files is a lack of this machine") {
    const Error error = runtime_error("failed", "x", "open failed: Too many open files");
    CHECK(error.status() == PARAEXPORT_MISSING);
    CHECK(std::string{error.what()}.find("ulimit -n") != std::string::npos);
}

TEST_CASE("numbers are written as the format g does") {
    CHECK(brief(0.485) == "0.485");
    CHECK(brief(1234567) == "1.23457e+06");
    CHECK(brief(0.00012345, 3) == "0.000123");
}
