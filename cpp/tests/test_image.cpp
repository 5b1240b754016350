#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "error.hpp"
#include "image/prepare.hpp"
#include "image/resize.hpp"

using namespace paraexport::core;

namespace {

Preprocessing model(std::size_t channels, std::size_t height, std::size_t width) {
    return {channels, height, width, false, height, width, "bilinear", {0.0F}, {1.0F}};
}

paraexport_pixels view(const std::vector<unsigned char> &bytes, std::size_t height, std::size_t width,
                       std::size_t channels) {
    return {sizeof(paraexport_pixels), bytes.data(), height, width, channels, 0, PARAEXPORT_RGB};
}

std::vector<float> prepared(const paraexport_pixels &pixels, const Preprocessing &to) {
    std::vector<float> image(to.channels * to.height * to.width);
    prepare(pixels, to, image.data());
    for (float &value : image) {
        value *= 255;
    }
    return image;
}

}  // namespace

TEST_CASE("an image of one colour keeps it, with every filter and size") {
    for (const char *filter : {"nearest", "bilinear", "bicubic", "lanczos"}) {
        for (std::size_t size = 1; size < 40; size += 3) {
            const std::vector<unsigned char> bytes(size * 7 * 3, 200);
            const Picture picture = resized({size, 7, 3, bytes.data(), 21}, 9, 11, filter);
            CHECK(picture.bytes == std::vector<unsigned char>(9 * 11 * 3, 200));
        }
    }
}

TEST_CASE("channels are converted") {
    const std::vector<unsigned char> bytes{10, 20, 30, 40};
    CHECK(prepared(view(bytes, 1, 1, 3), model(3, 1, 1)) == std::vector<float>{10, 20, 30});
    paraexport_pixels reversed = view(bytes, 1, 1, 4);
    reversed.order = PARAEXPORT_BGR;
    CHECK(prepared(reversed, model(3, 1, 1)) == std::vector<float>{30, 20, 10});
    CHECK(prepared(view(bytes, 1, 1, 1), model(3, 1, 1)) == std::vector<float>{10, 10, 10});
    CHECK(prepared(view(bytes, 1, 1, 3), model(1, 1, 1))[0] == doctest::Approx(18));
    CHECK(prepared(view(bytes, 1, 1, 4), model(4, 1, 1)) == std::vector<float>{10, 20, 30, 40});
    CHECK_THROWS_AS(prepared(view(bytes, 1, 1, 2), model(3, 1, 1)), Error);
    CHECK_THROWS_AS(prepared(view(bytes, 1, 1, 3), model(4, 1, 1)), Error);
}

TEST_CASE("rows may be apart") {
    const std::vector<unsigned char> bytes{1, 2, 99, 3, 4, 99};
    paraexport_pixels pixels = view(bytes, 2, 2, 1);
    pixels.stride = 3;
    CHECK(prepared(pixels, model(1, 2, 2)) == std::vector<float>{1, 2, 3, 4});
    pixels.stride = 1;
    CHECK_THROWS_AS(prepared(pixels, model(1, 2, 2)), Error);
}

TEST_CASE("a stride that leaves the address space is refused") {
    const std::vector<unsigned char> bytes(4, 1);
    paraexport_pixels pixels = view(bytes, 3, 1, 1);
    for (const std::size_t stride : {SIZE_MAX, SIZE_MAX / 2, std::size_t{PTRDIFF_MAX} / 2 + 1}) {
        pixels.stride = stride;
        CHECK_THROWS_WITH_AS(prepared(pixels, model(1, 1, 1)), doctest::Contains("the rows are too far apart"), Error);
    }
    pixels.height = 1;  // one row has no distance
    CHECK_NOTHROW(prepared(pixels, model(1, 1, 1)));
}

TEST_CASE("impossible pixels are refused") {
    const std::vector<unsigned char> bytes(16);
    CHECK_THROWS_AS(prepared(view(bytes, 0, 2, 1), model(1, 2, 2)), Error);
    CHECK_THROWS_WITH(prepared(view(bytes, 1u << 16, 1u << 16, 1), model(1, 2, 2)),
                      "pixels: the image is too large (expected at most 2^31 pixels, got 65536x65536); shrink it");
    CHECK_THROWS_AS(prepared(view(bytes, SIZE_MAX, SIZE_MAX, 1), model(1, 2, 2)), Error);
    paraexport_pixels nothing = view(bytes, 2, 2, 1);
    nothing.data = nullptr;
    CHECK_THROWS_AS(prepared(nothing, model(1, 2, 2)), Error);
    Preprocessing small = model(1, 4, 4);
    small.resize_height = 2;
    CHECK_THROWS_AS(prepared(view(bytes, 4, 4, 1), small), Error);
}
