#include <doctest/doctest.h>

#include <string>

#include "bundle/sha256.hpp"

using paraexport::core::Sha256;

namespace {

std::string hashed(const std::string &text, bool portable, std::size_t part) {
    Sha256 hash{portable};
    for (std::size_t at = 0; at < text.size(); at += part) {
        hash.update(text.data() + at, std::min(part, text.size() - at));
    }
    return hash.hex();
}

}  // namespace

TEST_CASE("sha256 gives the digests of FIPS 180-4") {
    for (const bool portable : {false, true}) {
        CHECK(hashed("", portable, 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        CHECK(hashed("abc", portable, 1) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        CHECK(hashed("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", portable, 7) ==
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        CHECK(hashed(std::string(1000000, 'a'), portable, 4099) ==
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

TEST_CASE("sha256 does not depend on the instructions or on how the data comes") {
    std::string text;
    for (int i = 0; i < 300; ++i) {
        text += static_cast<char>(i * 7);
        const std::string expected = hashed(text, true, text.size());
        CHECK(hashed(text, false, 1) == expected);
        CHECK(hashed(text, false, 63) == expected);
        CHECK(hashed(text, false, 64) == expected);
    }
}
