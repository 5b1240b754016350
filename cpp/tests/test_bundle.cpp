#include <doctest/doctest.h>

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
