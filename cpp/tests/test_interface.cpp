#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "paraexport.h"
#include "paraexport.hpp"

namespace {

bool says(const char *text) {
    return std::string{paraexport_last_error()}.find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("null pointers are refused by name") {
    paraexport_engine *engine = nullptr;
    CHECK(paraexport_open(nullptr, nullptr, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(says("path is NULL"));
    CHECK(paraexport_open("x", nullptr, nullptr) == PARAEXPORT_BAD_INPUT);
    CHECK(says("engine is NULL"));
    CHECK(paraexport_open_memory(nullptr, 0, nullptr, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_open_reader(nullptr, nullptr, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_run(nullptr, nullptr, 1, nullptr) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_check(nullptr, nullptr) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_verify(nullptr) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_get_info(nullptr, nullptr) == PARAEXPORT_BAD_INPUT);
    CHECK(paraexport_label(nullptr, 0) == nullptr);
    CHECK(paraexport_close(nullptr) == PARAEXPORT_OK);
    CHECK(std::string{paraexport_last_error()}.empty());
}

TEST_CASE("addresses that are no engines are refused") {
    int value = 0;
    auto *fake = reinterpret_cast<paraexport_engine *>(&value);
    CHECK(paraexport_close(fake) == PARAEXPORT_BAD_INPUT);
    CHECK(says("the engine is closed, or was never opened"));
    CHECK(paraexport_label(fake, 0) == nullptr);
}

TEST_CASE("structs without a size, and with unknown fields, are refused") {
    paraexport_engine *engine = nullptr;
    paraexport_options options{};
    CHECK(paraexport_open("x", &options, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(says("the field size of paraexport_options is not set"));
    struct Newer {
        paraexport_options known;
        const char *unknown;
    } newer{{sizeof(Newer), 0, nullptr, nullptr, 0}, "x"};
    CHECK(paraexport_open("x", &newer.known, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(says("a field that this library does not know"));
    newer.unknown = nullptr;
    CHECK(paraexport_open("/nowhere", &newer.known, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(says("/nowhere: not a bundle (expected a folder, got nothing)"));
    // An older header had fewer fields.
    options.size = offsetof(paraexport_options, target);
    options.target = "not read";
    CHECK(paraexport_open("/nowhere", &options, &engine) == PARAEXPORT_BAD_INPUT);
    CHECK(says("not a bundle"));
}

TEST_CASE("the C++ layer throws the message and the status") {
    try {
        const paraexport::Engine engine{"/nowhere"};
        FAIL("it was opened");
    } catch (const paraexport::Failure &failure) {
        CHECK(failure.status() == PARAEXPORT_BAD_INPUT);
        CHECK(std::string{failure.what()}.find("/nowhere: not a bundle") == 0);
    }
    CHECK_THROWS_AS(paraexport::verify("/nowhere"), paraexport::Failure);
}
