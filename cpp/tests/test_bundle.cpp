#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <string>

#include "bundle/files.hpp"
#include "bundle/sha256.hpp"
#include "error.hpp"

using namespace paraexport::core;

TEST_CASE("files in memory are verified before they are given out") {
    const std::string text = "hello";
    const paraexport_file file{sizeof file, "a", text.data(), text.size()};
    const auto files = files_in_memory(&file, 1);
    CHECK_THROWS_AS(files->read("a"), Error);
    CHECK_THROWS_AS(files->verify("b", {}), Error);
    CHECK_THROWS_AS(files->verify("a", {sha256_hex(text), 4}), Error);
    CHECK_THROWS_AS(files->verify("a", {sha256_hex("hallo"), 5}), Error);
    files->verify("a", {sha256_hex(text), 5});
    CHECK(files->read("a") == text);
    CHECK(files->verified("a", {sha256_hex(text), 5}) == text);
}

TEST_CASE("a reader of the program is asked for each part") {
    std::map<std::string, std::string> contents{{"a", std::string(3000000, 'x')}};
    paraexport_reader reader{};
    reader.size = sizeof reader;
    reader.context = &contents;
    reader.find = [](void *context, const char *name, size_t *size_bytes) {
        const auto &all = *static_cast<std::map<std::string, std::string> *>(context);
        const auto place = all.find(name);
        if (place == all.end()) {
            return 1;
        }
        *size_bytes = place->second.size();
        return 0;
    };
    reader.read = [](void *context, const char *name, size_t offset, void *buffer, size_t size_bytes) {
        const auto &all = *static_cast<std::map<std::string, std::string> *>(context);
        all.at(name).copy(static_cast<char *>(buffer), size_bytes, offset);
        return 0;
    };
    const auto files = files_of_reader(reader);
    files->verify("a", {sha256_hex(contents["a"]), 3000000});
    CHECK(files->read("a") == contents["a"]);
    CHECK_THROWS_AS(files->open("b"), Error);
}

TEST_CASE("files in memory whose fields cannot be are refused") {
    struct Newer {
        paraexport_file known;
        const char *unknown;
    };
    const auto refused = [](const paraexport_file *files, std::size_t count) {
        try {
            files_in_memory(files, count);
        } catch (const Error &error) {
            CHECK(error.status() == PARAEXPORT_BAD_INPUT);
            return std::string{error.what()};
        }
        return std::string{};
    };
    const std::size_t size = sizeof(paraexport_file);
    const paraexport_file different[] = {{size, "a", "x", 1}, {size + 8, "b", "x", 1}};
    CHECK(refused(different, 2).find("different fields size") != std::string::npos);
    const paraexport_file twice[] = {{size, "a", "x", 1}, {size, "a", "x", 1}};
    CHECK(refused(twice, 2).find("/a: two files have one name") != std::string::npos);
    const paraexport_file odd{size + 1, "a", "x", 1};
    CHECK(refused(&odd, 1).find("a multiple of") != std::string::npos);
    const paraexport_file huge{size, "a", "x", SIZE_MAX};
    CHECK(refused(&huge, 1).find("no file has this size") != std::string::npos);
    Newer newer[] = {{{sizeof(Newer), "a", "x", 1}, nullptr}, {{sizeof(Newer), "b", "x", 1}, nullptr}};
    CHECK(refused(&newer[0].known, 2).empty());
    newer[1].unknown = "x";
    CHECK(refused(&newer[0].known, 2).find("does not know") != std::string::npos);
}

TEST_CASE("a reader with an impossible size is refused") {
    paraexport_reader reader{};
    reader.size = sizeof reader;
    reader.find = [](void *, const char *, size_t *size_bytes) {
        *size_bytes = SIZE_MAX / 2 + 1;
        return 0;
    };
    try {
        files_of_reader(reader)->open("a");
        FAIL("it was opened");
    } catch (const Error &error) {
        CHECK(error.status() == PARAEXPORT_BAD_INPUT);
    }
}
